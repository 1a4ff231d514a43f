"""The official client, bound to a replay in both its halves.

A `KiteTicker` that points at a replay leaves `KiteConnect` at the real broker, where its orders are real ones. So both
come from here together, or neither.
"""

import os
from typing import Any, Final

import httpx

from kitelake.errors import NoReplayError
from kitelake.strategy import API_VARIABLE, LOGIN_PATH, WS_VARIABLE, local_root

ANSWER_SECONDS: Final = 30.0
"""How long the replay may take to say that it is one."""


def connect(
    api_key: str = "paper",
    access_token: str = "paper",  # noqa: S107 (a replay accepts any)
    *,
    ws: str | None = None,
    api: str | None = None,
) -> tuple[Any, Any]:
    """A `KiteConnect` and a `KiteTicker` of the official client (`pip install kiteconnect`) for a running replay.

        kite, ticker = kitelake.replay.connect()

    `ws` and `api` are the roots that `kitelake replay` prints; without them those of the environment variables
    KITELAKE_REPLAY_WS and KITELAKE_REPLAY_API, which `kitelake replay --run` sets. Any key and token are accepted, and
    each key is one account. Raises `NoReplayError` if kiteconnect is not installed, a root is missing or is not on this
    machine, or what answers at `api` is no replay.
    """
    stream = local_root(ws or os.environ.get(WS_VARIABLE, ""), "ws", WS_VARIABLE)
    rest = local_root(api or os.environ.get(API_VARIABLE, ""), "http", API_VARIABLE)
    _check_replay(rest)
    try:
        from kiteconnect import KiteConnect, KiteTicker
    except ModuleNotFoundError as error:
        raise NoReplayError(
            f"connect() hands out the broker's own client, and there is no {error.name} here: "
            "pip install kiteconnect, and for its versions up to 5.2 also pip install 'setuptools<81'"
        ) from None
    kite = KiteConnect(api_key, access_token=access_token, root=rest)
    kite._default_login_uri = rest + LOGIN_PATH
    kite.reqsession.trust_env = False  # neither a proxy nor a login of the environment's is for the replay
    return kite, KiteTicker(api_key, access_token, root=stream)


def _check_replay(api: str) -> None:
    """Ask for what only a replay answers: a server on this machine may be a way to the real broker too."""
    url = f"{api}/replay/status"
    try:
        answer = httpx.get(url, trust_env=False, timeout=ANSWER_SECONDS)
    except httpx.HTTPError as error:
        raise NoReplayError(
            f"no replay answers at {url} ({type(error).__name__}): is `kitelake replay` running, and is this its api?"
        ) from error
    try:
        status = answer.json()
        is_status = answer.status_code == 200 and isinstance(status, dict) and "clock" in status
    except ValueError:
        is_status = False
    if not is_status:
        raise NoReplayError(f"what answers at {url} is no replay: got status {answer.status_code}, expected its status")
