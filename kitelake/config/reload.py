"""A configuration that changes while the service runs: noticing it, and telling what of it takes effect at once."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from kitelake.config.accounts import AccountSection
from kitelake.config.config import Config, load_config
from kitelake.errors import ConfigError

AT_START: Final = ("data", "simulator", "kite", "capture", "journal", "metrics", "log")
"""Sections that are read at the start only."""

_Signature = tuple[int, int, int] | None


class FileWatch:
    """Notices that files have changed, by a look at each: where a file is replaced whole, as editors do, or lies on a
    network, nothing else is certain."""

    def __init__(self, paths: Iterable[Path]) -> None:
        """Make it before these files are read: what changes from then on is noticed."""
        self._seen = {path: _signature(path) for path in paths}

    def changed(self, paths: Iterable[Path]) -> list[Path]:
        """Those that are not as they were at the last look. A file that was not looked at before is among them: it may
        have changed since whoever named it has read it."""
        now = {path: _signature(path) for path in paths}
        changed = [path for path, signature in now.items() if path not in self._seen or self._seen[path] != signature]
        self._seen = now
        return changed


def _signature(path: Path) -> _Signature:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def reread(path: Path, before: Config) -> tuple[Config, list[str]]:
    """The file as it is now, with what is read at the start only as it was; and the names of such sections that differ.

    Raises ConfigError, also if the one does not fit the other.
    """
    new = load_config(path)
    late = [name for name in AT_START if getattr(new, name) != getattr(before, name)]
    merged = new.model_copy(update={name: getattr(before, name) for name in late})
    try:
        merged.check_lists()
    except ValueError as error:
        raise ConfigError(
            f"{path}: restart the service: `capture` as it is in force until then does not fit the rest of it: {error}"
        ) from None
    return merged, late


class AccountChanges(NamedTuple):
    """Names of accounts. One whose key or source of tokens changed is among both."""

    gone: list[str]
    new: list[str]


def account_changes(before: Config, after: Config) -> AccountChanges:
    """What becomes of the accounts."""
    old, new = _connecting(before), _connecting(after)
    return AccountChanges(
        gone=[name for name, account in old.items() if new.get(name) != account],
        new=[name for name, account in new.items() if old.get(name) != account],
    )


def _connecting(config: Config) -> dict[str, AccountSection]:
    """The accounts by name, as far as the service needs them: the secret of an app is for a login."""
    return {account.name: account.model_copy(update={"api_secret": None}) for account in config.accounts}
