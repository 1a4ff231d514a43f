"""What may be the root of a replay: an address on this machine, and no other."""

from urllib.parse import urlsplit

from kitelake.errors import NoReplayError
from kitelake.strategy.guard import API_VARIABLE, WS_VARIABLE, address_of


def local_root(url: str, scheme: str, variable: str) -> str:
    """The same, without a slash at its end. Raises `NoReplayError` unless it is a root on this machine."""
    given = url.rstrip("/")
    if not given:
        raise NoReplayError(
            f"no address of a replay: start one with `kitelake replay --date …` and pass the roots that it prints as "
            f"ws= and api=, or set {WS_VARIABLE} and {API_VARIABLE}, as `kitelake replay --run` does"
        )
    parts = urlsplit(given)
    expected = f"expected {scheme}://127.0.0.1:PORT, as `kitelake replay` prints it (ws=, api=, or {variable})"
    try:
        has_port = parts.port is not None
    except ValueError:
        has_port = False
    if parts.scheme != scheme or not has_port or parts.path or parts.query or parts.username is not None:
        raise NoReplayError(f"not the {scheme} root of a replay: {expected}")
    host = parts.hostname or ""
    address = address_of(host)
    if host != "localhost" and address != "::1" and not (address or "").startswith("127."):
        raise NoReplayError(f"got a root at {host}, which may be the real broker's: {expected}")
    return given
