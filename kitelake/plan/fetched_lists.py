"""Instrument names from an address on the web, of whose answer a copy is kept for when it cannot be had.

The address may hold a key, and what it answers with may be anything: texts name scheme, host and line only.
"""

import asyncio
import contextlib
import datetime as dt
import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from ingest.accounts import LOOPBACK, tls_context
from kitelake.errors import ListFileError
from kitelake.plan.name_lists import MAX_BYTES, read_list_file, read_names
from storage.clock import IST, ist_time
from storage.files import write_whole

TIMEOUT_SECONDS: Final = 30.0

_HEADERS: Final = {  # some sites of exchanges leave whoever sends none of these without an answer
    "Accept": "text/csv,text/plain,text/html;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-IN,en;q=0.9",
    "User-Agent": "Mozilla/5.0 (compatible; Kitelake)",
}


async def fetch_list(
    url: str, cache: Path, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> tuple[list[str], str | None]:
    """The names that `url` answers with, of which a copy is kept in the folder `cache`; and None.

    If they cannot be had, those of the copy, and a sentence that says why and how old it is. Raises ListFileError if
    there is no copy either; ValueError if `url` is not http or https.
    """
    what = _place(url)
    try:
        data = await _get(url, what, timeout_seconds)
        names = await asyncio.to_thread(read_names, data, what)
    except ListFileError as error:
        problem = str(error)
    else:
        try:
            await asyncio.to_thread(_keep, data, _copy(url, cache))
        except OSError as error:
            return names, f"{what}: the list serves, but no copy could be kept: {error.strerror}"
        return names, None
    kept = await asyncio.to_thread(cached_list, url, cache)
    if kept is None:
        raise ListFileError(f"{problem}; there is no copy from before that could serve")
    return kept, f"{problem}; the copy of {_age(_copy(url, cache))} serves"


def cached_list(url: str, cache: Path) -> list[str] | None:
    """The names of the copy that `fetch_list` has kept. None if there is none that can be read."""
    try:
        return read_list_file(_copy(url, cache))
    except ListFileError:
        return None


async def _get(url: str, what: str, timeout_seconds: float) -> bytes:
    """What the address answers with, up to a little over MAX_BYTES. Raises ListFileError."""
    data = bytearray()
    failure = ""
    try:
        tls = await asyncio.to_thread(tls_context)
        async with (
            asyncio.timeout(timeout_seconds),
            httpx.AsyncClient(
                verify=tls,
                headers=_HEADERS,
                follow_redirects=True,
                timeout=timeout_seconds,
                trust_env=urlsplit(url).hostname not in LOOPBACK,  # no proxy lies between us and this machine
            ) as client,
            client.stream("GET", url) as response,
        ):
            if not response.is_success:
                failure = f"it answered {response.status_code}, expected 200"
            else:
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MAX_BYTES:
                        break
    except (TimeoutError, httpx.TimeoutException):
        failure = f"no whole answer came within {timeout_seconds:g} s"
    except httpx.ConnectError as error:
        failure = f"cannot connect: {error}"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:  # some of their texts hold the address
        failure = f"the call failed: {type(error).__name__}"
    # Raised out here, so that the library's exception, and the request in it, is not the context of ours.
    if failure:
        raise ListFileError(f"{what}: {failure}")
    return bytes(data)


def _place(url: str) -> str:
    """`https://HOST`"""
    with contextlib.suppress(ValueError):  # its own text quotes the address
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return f"{parts.scheme}://{parts.hostname}"
    raise ValueError("expected http://HOST/PATH or https://HOST/PATH as the address of a list")


def _copy(url: str, cache: Path) -> Path:
    return cache / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.list"


def _keep(data: bytes, copy: Path) -> None:
    """Write it whole or not at all, whoever else does the same. Raises OSError."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    write_whole(copy, data, durable=False)


def _age(copy: Path) -> str:
    """`Mon 23 Nov 2026, 08:30 (3 days old)`"""
    kept_at = ist_time(copy.stat().st_mtime_ns)
    age = dt.datetime.now(IST) - kept_at
    old = f"{age.days} days" if age.days > 1 else f"{age // dt.timedelta(hours=1)} hours"
    return f"{kept_at:%a %d %b %Y, %H:%M} ({old} old)"
