"""A canary in every secret of a real service at debug level: it is in nothing that the service or a command leaves."""

import contextlib
import io
import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ingest.wire.journal import JournalDecoder
from storage.journal import Kind, SegmentReader, segments, streams
from storage.layout import DataLayout
from storage.upkeep.archive import archive_committed
from tests.support.command import Run, command
from tests.support.running import Running, running
from tests.support.simulation import simulation
from tests.support.waiting import PATIENCE_SECONDS, wait_until
from tests.support.webhook import Webhook

__all__ = ["command"]  # the fixture

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # Apprise's import of it
]

CANARY = "canary7f3a9c41"
ACCOUNTS = [
    {"name": name, "api_key": f"key-{name}", "access_token": f"{CANARY}-token-{name}", "api_secret": f"{CANARY}-secret"}
    for name in ("one", "two", "three")
]
MOST_OF_A_FILE = 64 << 20


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    webhook = Webhook()
    yield webhook
    webhook.close()


def test_no_secret_is_in_anything_that_is_left(
    tmp_path: Path, command: Run, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logins, refusals, a bad config.yaml, texts of the broker, a killed capture, notifications, every command."""
    token_file = tmp_path / "token-of-two"
    token_file.write_text(f"{CANARY}-stale\n")
    token_file.chmod(0o600)
    hook = tmp_path / "hook"
    hook.write_text(f"json://127.0.0.1:{webhook.server.server_port}/{CANARY}-hook")
    hook.chmod(0o600)
    token = f"{CANARY}-token-one"
    monkeypatch.setenv("ACCESS_TOKEN", token)
    monkeypatch.setenv("API_SECRET", f"{CANARY}-secret")
    accounts: list[dict[str, Any]] = [
        {"name": "one", "api_key": "key-one", "access_token": {"env": "ACCESS_TOKEN"}},
        {"name": "two", "api_key": "key-two", "access_token": {"file": str(token_file)}},
        {"name": "three", "api_key": "key-three", "api_secret": {"env": "API_SECRET"}},
    ]
    sections: dict[str, Any] = {
        "accounts": accounts,
        "notifications": [{"url": {"file": str(hook)}}],
        "login": {"folder": str(tmp_path / "logins")},
        "journal": {"segment_seconds": 10},  # each is files, all of which are read several times
        "metrics": {"port": 0},
        "log": {"level": "debug"},
        "capture": {"token_retry_seconds": 0.2, "backoff_initial_seconds": 0.1, "slow_retry_seconds": 0.5},
    }
    market = simulation(instruments=200, rate=2, accounts=ACCOUNTS, requests_per_second=1000)
    with market as simulator, running(tmp_path, simulator, fork_children=False, **sections) as service:
        simulator.wait_for(lambda stats: stats["packets"] > 300, PATIENCE_SECONDS)
        wait_until(lambda: webhook.posts)  # the stale token of two, the missing one of three
        token_file.write_text(f"{CANARY}-token-two\n")
        monkeypatch.setattr("sys.stdin", io.StringIO(f"http://127.0.0.1/?request_token={CANARY}-asked\n"))
        assert command("login", "three", "--paste").status == 0
        wait_until(lambda: connected_accounts(simulator.stats()) == {"one", "two", "three"})
        simulator.fault("text", account="one", data=f"your access_token={token} is fine, {token}")
        simulator.fault("order", account="one", data={"tag": token})
        # A connection that is reset loses what its receiver had not read yet.
        wait_until(lambda: service.rows("select * from events where message like '%is fine%'"))
        wait_until(lambda: service.rows("select * from orders"))
        simulator.fault("refuse", status=403, times=2)
        simulator.fault("drop", how="rst")
        wait_until(lambda: "refused" in service.log)
        check_children(service)
        good = service.config.read_text()
        service.configure(accounts=[{**accounts[0], "api_key": [f"{CANARY}-key"], "token": f"{CANARY}-key"}])
        wait_until(lambda: "config.yaml is not usable" in (service.data / "status.json").read_text())
        wait_until(lambda: any("not usable" in post["title"] for post in webhook.posts))
        refused = command("run")
        assert refused.status == 2
        service.config.write_text(good)
        assert CANARY not in metrics_of(service)
        for arguments in (["plan"], ["check"], ["status"], ["status", "--json"], ["report"]):
            assert command(*arguments).out, arguments
        service.process.kill()
        service.process.wait()
        service.start()
        before = simulator.stats()["packets"]
        simulator.wait_for(lambda stats: stats["packets"] > before + 300, PATIENCE_SECONDS)
        service.stop()
        for arguments in (["report", "--json"], ["verify"], ["seal", "--date", "today"]):
            assert command(*arguments).out, arguments
        assert CANARY not in json.dumps([{**post, "url": ""} for post in webhook.posts])
        assert CANARY not in service.log + service.output
        check_folder(service)
        events = json.dumps(service.rows("select * from events"), default=str)
        assert "your access_token=*** is fine, ***" in events
        assert service.rows("select distinct tag from orders where tag like '*%'") == [{"tag": "***"}]


def metrics_of(service: Running) -> str:
    (port,) = re.findall(r"metrics are served.*port=(\d+)", service.log)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_SECONDS) as page:
        text: str = page.read().decode()
        return text


def check_children(service: Running) -> None:
    """No child process has it in its environment or its command line."""
    for pid in service.children().values():
        with contextlib.suppress(OSError):  # it has ended
            assert CANARY.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
            assert CANARY.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()


def connected_accounts(stats: dict[str, Any]) -> set[str]:
    return {one["account"] for one in stats["connections"] if one["open"]}


def check_folder(service: Running) -> None:
    """No file below the data folder has it, plain, compressed, as a column or as a frame."""
    layout = DataLayout(service.data)
    assert archive_committed(layout, JournalDecoder()).segments > 0
    needle = CANARY.encode()
    names = set()
    for path in service.data.rglob("*"):
        if path.is_file() and path.stat().st_size < MOST_OF_A_FILE:
            assert needle not in path.read_bytes(), path
            names.add(path.relative_to(service.data).parts[0])
            if path.suffix == ".parquet":
                assert CANARY not in repr(pq.ParquetFile(path).read().to_pylist()), path
    assert {"days", "status.json", "journal", "ticks", "events", "orders", "instruments"} <= names
    for stream in streams(layout):
        for number in set(segments(layout, stream)):
            with SegmentReader(layout.segment(stream, number)) as reader:
                for block in reader.read():
                    for kind in Kind:
                        assert not any(needle in payload for _, payload in block.payloads(kind))
