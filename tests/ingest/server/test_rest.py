"""The server's REST calls as Kite documents them, and its control address."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.scripted_source import ScriptedServer
from tests.support.simulator_client import address, client, fault, serving, until
from tests.support.waiting import PATIENCE_SECONDS

VERSION = {"X-Kite-Version": "3"}
LOGIN = {**VERSION, "Authorization": "token key-one:token-one"}


@contextlib.asynccontextmanager
async def rest(**settings: Any) -> AsyncIterator[tuple[ScriptedServer, httpx.AsyncClient]]:
    async with (
        serving(**settings) as server,
        httpx.AsyncClient(base_url=server.urls["api"], trust_env=False, verify=False) as http,
    ):
        yield server, http


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    values = answer.json()
    assert values["status"] == "error"
    assert values["data"] is None
    return answer.status_code, values["error_type"], values["message"]


async def test_instruments_are_csv_and_gzipped_for_who_accepts_it() -> None:
    async with rest() as (server, http):
        zipped = await http.get("/instruments")
        plain = await http.get("/instruments", headers={"Accept-Encoding": "identity"})
        assert zipped.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in plain.headers
        assert plain.headers["Content-Type"] == "text/csv"
        assert int(zipped.headers["Content-Length"]) < int(plain.headers["Content-Length"]) / 2
        assert zipped.text == plain.text
        assert plain.text == server.script.instruments("")


async def test_the_login_page_sends_the_browser_back_with_what_redirect_params_held() -> None:
    accounts = [
        {"name": "one", "api_key": "key-one", "access_token": "token-one", "request_token": "request-one"},
        {"name": "two", "api_key": "key-two", "access_token": "token-two", "redirect_url": "https://app.invalid/?a=b"},
    ]
    async with rest(accounts=accounts) as (_, http):
        query = {"v": "3", "api_key": "key-one"}
        back = "action=login&type=login&status=success&request_token="
        answer = await http.get("/connect/login", params=query | {"redirect_params": "some=X&more=Y%26Z&none="})
        assert answer.status_code == 302
        location = answer.headers["Location"]
        assert location == f"http://127.0.0.1:8710/?{back}request-one&some=X&more=Y%26Z&none="
        location = (await http.get("/connect/login", params=query | {"api_key": "key-two"})).headers["Location"]
        assert re.fullmatch(rf"https://app\.invalid/\?a=b&{back}[0-9a-f]{{32}}", location)
        for wrong, expected in (({"api_key": "key-none"}, 403), ({"v": "2"}, 400)):
            assert (await http.get("/connect/login", params=query | wrong)).status_code == expected


async def test_instruments_of_an_exchange() -> None:
    async with rest() as (server, http):
        for exchange in ("NSE", "BSE", "NFO", "BFO", "CDS", "BCD", "MCX"):
            assert (await http.get(f"/instruments/{exchange}")).text == server.script.instruments(exchange)
        assert error_of(await http.get("/instruments/NYSE")) == (400, "InputException", "Invalid exchange `NYSE`")


def session(**changes: str) -> dict[str, str]:
    checksum = hashlib.sha256(b"key-onerequestsecret-one").hexdigest()
    return {"api_key": "key-one", "request_token": "request", "checksum": checksum, **changes}


async def test_a_login_gives_the_access_token() -> None:
    async with rest() as (_, http):
        answer = await http.post("/session/token", data=session(), headers=VERSION)
        assert answer.status_code == 200
        data = answer.json()["data"]
        assert data["access_token"] == "token-one"
        assert data["api_key"] == "key-one"
        profile = await http.get("/user/profile", headers=LOGIN)
        assert profile.json()["status"] == "success"
        assert profile.json()["data"]["user_id"] == data["user_id"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"checksum": "0" * 64}, (403, "TokenException", "Invalid `checksum`.")),
        ({"request_token": "other"}, (403, "TokenException", "Invalid `checksum`.")),
        ({"api_key": "other"}, (403, "TokenException", "Invalid `api_key`.")),
        ({"checksum": ""}, (400, "InputException", "Missing or empty field `checksum`")),
        ({"checksum": "ü"}, (403, "TokenException", "Invalid `checksum`.")),
    ],
)
async def test_a_wrong_login_is_refused(changes: dict[str, str], expected: tuple[int, str, str]) -> None:
    async with rest() as (_, http):
        assert error_of(await http.post("/session/token", data=session(**changes), headers=VERSION)) == expected


async def test_a_request_token_may_be_the_only_good_one() -> None:
    account = {"api_key": "key-one", "access_token": "token-one", "api_secret": "secret-one", "request_token": "good"}
    async with rest(accounts=[account]) as (_, http):
        refused = error_of(await http.post("/session/token", data=session(), headers=VERSION))
        assert refused == (403, "TokenException", "Token is invalid or has expired.")


@pytest.mark.parametrize(
    "login", ["", "token key-one:token-two", "token key-two:token-one", "Bearer key-one:token-one"]
)
async def test_a_profile_needs_the_right_token(login: str) -> None:
    async with rest() as (_, http):
        answer = await http.get("/user/profile", headers={**VERSION, "Authorization": login})
        assert error_of(answer) == (403, "TokenException", "Incorrect `api_key` or `access_token`.")


async def test_the_version_header_is_checked() -> None:
    async with rest() as (_, http):
        for headers in ({}, {"X-Kite-Version": "2"}):
            status, kind, message = error_of(await http.get("/user/profile", headers=headers))
            assert (status, kind) == (400, "InputException")
            assert "X-Kite-Version" in message


async def test_what_is_not_there_is_404() -> None:
    async with rest() as (_, http):
        assert error_of(await http.get("/orders"))[:2] == (404, "GeneralException")
        assert error_of(await http.post("/user/profile"))[:2] == (404, "GeneralException")
        assert error_of(await http.get("/instruments/NSE/INFY"))[:2] == (404, "GeneralException")


async def test_too_many_calls_are_refused_with_429() -> None:
    async with rest(requests_per_second=2) as (_, http):
        answers = [await http.get("/user/profile", headers=LOGIN) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert error_of(answers[2]) == (429, "NetworkException", "Too many requests")


async def test_calls_are_refused_when_told() -> None:
    async with rest() as (server, http):
        await fault(server, "rest", status=502, times=2, path="/instruments")
        assert (await http.get("/user/profile", headers=LOGIN)).status_code == 200
        assert error_of(await http.get("/instruments"))[:2] == (502, "NetworkException")
        assert error_of(await http.get("/instruments/NSE"))[:2] == (502, "NetworkException")
        assert (await http.get("/instruments")).status_code == 200
        await fault(server, "rest", status=403, account="one")
        other = {**VERSION, "Authorization": "token key-two:token-two"}
        assert (await http.get("/user/profile", headers=other)).status_code == 200
        assert error_of(await http.get("/user/profile", headers=LOGIN))[:2] == (403, "TokenException")


async def test_another_login_replaces_the_token() -> None:
    async with rest() as (server, http):
        await fault(server, "token", account="one", access_token="newer")
        assert (await http.get("/user/profile", headers=LOGIN)).status_code == 403
        answer = await http.post("/session/token", data=session(), headers=VERSION)
        assert answer.json()["data"]["access_token"] == "newer"


async def test_stats_and_faults_over_http() -> None:
    async with rest() as (server, http), client(address(server)) as one:
        control = server.urls["control"]
        await one.ask("subscribe", [1000])
        await until(one.packets)
        paused = await http.post(f"{control}/faults", json={"kind": "pause"})
        assert paused.json() == {"applied": 0}
        brief = (await http.get(f"{control}/stats")).json()
        whole = (await http.get(f"{control}/stats?instruments=1")).json()
        assert brief["paused"] is True
        assert "instruments" not in brief["connections"][0]
        assert whole["connections"][0]["instruments"] == {"1000": whole["packets"]}
        assert (await http.post(f"{control}/faults", json={"kind": "drop"})).json() == {"applied": 1}
        await until(lambda: one.closed)


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}])
async def test_pages_of_other_sites_are_refused(headers: dict[str, str]) -> None:
    async with rest() as (server, http):
        control = server.urls["control"]
        for method, path in (("POST", f"{control}/faults"), ("GET", f"{control}/stats"), ("DELETE", "/echo")):
            status, kind, message = error_of(await http.request(method, path, headers=LOGIN | headers))
            assert (status, kind) == (403, "PermissionException")
            assert "another site" in message
        own = {"Origin": server.urls["api"]}
        assert (await http.post(f"{control}/faults", json={"kind": "pause"}, headers=own)).status_code == 200


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "expected a JSON object"),
        (b'{"kind": "explode"}', "not a fault"),
        (b'{"kind": "token", "account": "nobody", "access_token": "x"}', "no account is named 'nobody'"),
        (b'{"kind": "order", "account": "nobody"}', "no account is named 'nobody'"),
    ],
)
async def test_what_is_no_fault_is_answered_with_400(body: bytes, complaint: str) -> None:
    async with rest() as (server, http):
        answer = await http.post(f"{server.urls['control']}/faults", content=body)
        assert answer.status_code == 400
        assert complaint in answer.json()["error"]


async def test_a_body_without_bounds_is_refused_as_the_broker_refuses() -> None:
    async with serving() as server:
        host, _, port = server.urls["api"].removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST /session/token HTTP/1.1\r\nHost: {host}\r\nContent-Length: 99999999999\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE_SECONDS)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"InputException" in answer
        writer.close()


async def test_calls_of_the_source_are_answered_by_it_and_their_orders_are_pushed() -> None:
    async with rest() as (server, http), client(address(server)) as one, client(address(server, "two")) as other:
        await until(lambda: one.texts and other.texts)
        await fault(server, "pause")  # so that no step gives the order away
        answer = await http.post("/echo/1?a=b", data={"quantity": "5"}, headers=LOGIN)
        assert answer.json() == {
            "status": "success",
            "data": {"of": "one", "to": "POST /echo/1", "query": {"a": ["b"]}, "form": {"quantity": ["5"]}, "size": 10},
        }
        await until(lambda: one.of_type("order"))
        assert one.of_type("order") == [{"order_id": "called"}]
        assert not other.of_type("order")
        for method in ("GET", "PUT", "DELETE"):
            called = await http.request(method, "/echo", headers=LOGIN)
            assert called.json()["data"]["to"] == f"{method} /echo"


async def test_calls_of_the_source_need_a_login_and_may_be_refused() -> None:
    async with rest(requests_per_second=2) as (server, http):
        assert error_of(await http.get("/echo"))[:2] == (400, "InputException")
        assert error_of(await http.get("/echo", headers=VERSION))[:2] == (403, "TokenException")
        assert error_of(await http.get("/refused", headers=LOGIN)) == (400, "OrderException", "no GET here")
        assert (await http.get("/echo", headers=LOGIN)).status_code == 200
        assert error_of(await http.get("/echo", headers=LOGIN))[0] == 429
        await fault(server, "rest", status=502, path="/echo")
        assert error_of(await http.get("/echo", headers=LOGIN))[0] == 502
