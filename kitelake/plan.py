"""From subscription lists to tokens: what config.yaml asks for, resolved against the day's instrument list. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ingest.errors import InstrumentError
from ingest.instruments import Instruments
from ingest.wire import Mode
from kitelake.config import SubscriptionList

_RANK = {Mode.LTP: 0, Mode.QUOTE: 1, Mode.FULL: 2}


@dataclass(frozen=True)
class Plan:
    """What to stream: token → mode, how many instruments each list names, and in words what could not be resolved."""

    wanted: Mapping[int, Mode]
    lists: Mapping[str, int]
    unknown: Sequence[str] = ()

    def by_mode(self) -> dict[Mode, list[int]]:
        """The tokens of each mode that is wanted at all."""
        return {mode: [t for t, m in self.wanted.items() if m is mode] for mode in Mode if mode in self.wanted.values()}


def make_plan(subscriptions: Sequence[SubscriptionList], instruments: Instruments, default_mode: Mode) -> Plan:
    """Resolve every list; one without a mode gets `default_mode`.

    An instrument in several lists is wanted once, in the highest of their modes.

    What the instrument list does not know is named in `unknown`, with near matches, and the rest is wanted all the
    same.
    """
    wanted: dict[int, Mode] = {}
    lists: dict[str, int] = {}
    unknown: list[str] = []
    for entry in subscriptions:
        tokens = dict.fromkeys(_tokens(entry, instruments, unknown))
        lists[entry.name] = len(tokens)
        mode = entry.mode or default_mode
        for token in tokens:
            wanted[token] = max(mode, wanted.get(token, mode), key=_RANK.__getitem__)
    return Plan(wanted, lists, unknown)


def _tokens(entry: SubscriptionList, instruments: Instruments, unknown: list[str]) -> Iterator[int]:
    for name in entry.instruments:
        try:
            yield from instruments.resolve([name])
        except InstrumentError as error:
            unknown.append(f"{entry.name}: {error}")
    if entry.select is None:
        return
    try:
        tokens = instruments.select(
            exchanges=[entry.select.exchange] if entry.select.exchange else (),
            segments=[entry.select.segment] if entry.select.segment else (),
            instrument_types=entry.select.types,
            names=entry.select.names,
            expiries=entry.select.expiries,
        )
    except InstrumentError as error:
        unknown.append(f"{entry.name}: {error}")
        return
    if not tokens:
        unknown.append(f"{entry.name}: no instrument of the day's list fits the selection")
    yield from tokens
