"""Who streams what: the instruments of a manager are placed on the slots of its accounts. It sends nothing.

How the copies of an instrument live, move and wait from then on is told in `ingest.manager.replicas`. A call is planned on
`fills`, a copy of what the slots hold; what raises does so before anything changes.
"""

from collections.abc import Collection, Iterable

from ingest.manager.placement import (
    LOAD,
    Fill,
    Further,
    Slot,
    all_fit,
    capacity_error,
    check_limits,
    fits,
    place,
    place_further,
    rooms_of,
)
from ingest.manager.replicas import Copies, Moved, Stream
from ingest.settings import MAX_CONNECTIONS, MAX_INSTRUMENTS, Strategy
from ingest.wire import Mode

__all__ = ["Allocation", "Moved"]


class Allocation(Copies):
    """Gives instruments to slots: all of them, or those of accounts that are named."""

    def __init__(
        self,
        accounts: Iterable[str],
        *,
        connections: int = MAX_CONNECTIONS,
        capacity: int = MAX_INSTRUMENTS,
        strategy: Strategy = Strategy.BALANCED,
        copies: int = 2,
    ) -> None:
        """`capacity` is what a connection holds; `copies` is for REDUNDANT, where a call does not say another number.

        Raises ValueError for numbers beyond the broker's limits and for accounts of the same name.
        """
        check_limits(capacity, copies)
        super().__init__(accounts, connections, capacity)
        self._strategy = strategy
        self._copies = copies if strategy is Strategy.REDUNDANT else 1

    def subscribe(
        self,
        tokens: Iterable[int],
        mode: Mode,
        *,
        account: str | Collection[str] | None = None,
        connection: int | None = None,
        copies: int | None = None,
        priority: int = 0,
        leave_out: bool = False,
    ) -> list[int]:
        """Stream these. One that is there already gets its new mode and priority where it is.

        `copies` is on how many accounts each is streamed. It brings also those that are there to that number. Without
        it new ones get one copy, or with REDUNDANT the strategy's number, and those that are there keep what they have.

        `account`, a name or several, places by hand: each on so many of the named accounts, on any of their connections
        or, with one account, on `connection`. Copies that are on a named account stay where they are; they become more
        or fewer there, and those elsewhere are given up. Without `copies` there is one of each, or with REDUNDANT the
        strategy's number, but no more than accounts are named.

        What does not fit raises CapacityError. With `leave_out` it is left out and returned. Then new and moving
        instruments take the places of those of a larger `priority` number: of the largest first, and the latest
        subscribed first. These are unsubscribed and returned too. After that the last of `tokens` are left out; one
        that is there already stays where it is. Further copies of what is there take nobody's place. The same call
        again changes nothing.

        A lost slot has places, too. What gets one there streams elsewhere meanwhile if there is room, or something less
        important that gives way: see `ingest.manager.replicas`. That stays subscribed, and is not returned: it waits.

        Raises ValueError for arguments that contradict each other or name what is not there, or no account at all.
        """
        names = self._named(account)
        allowed = self._allowed(names, connection)
        each = self._each(names, copies)
        # For those that are there. None leaves them their number, or their slots.
        wanted = each if names is not None or copies is not None else None
        within = frozenset(allowed) if names is not None else None
        # Those that are as asked already take no part, so that a call that repeats another costs little.
        tokens = [
            token
            for token in dict.fromkeys(tokens)
            if token not in self._streams or not self._is_as_asked(token, mode, priority, wanted, within)
        ]
        there = [token for token in tokens if token in self._streams]
        new = len(tokens) - len(there)
        if new and names is None and self._strategy is Strategy.MANUAL:
            raise ValueError(f"got {new:,} new instruments without an account, expected account=: placement is manual")

        fills = {slot: Fill(self._held(slot), self._load[slot]) for slot in allowed}
        entering, growing, surplus = self._sort_out(tokens, wanted, within)
        for token, homes in surplus.items():
            if token not in growing:  # else it keeps them, should it find no room
                self._discount(fills, token, homes)
        for token in there:
            for home, now in self._streams[token].homes.items():
                if now is not None and now in fills and home not in surplus.get(token, ()):
                    change = LOAD[mode] - LOAD[self._modes[token]]
                    fills[now] = Fill(fills[now].instruments, fills[now].load + change)

        added, left = place_further(growing, mode, fills, capacity=self._capacity, last=self._lost)
        if left and not leave_out:
            raise capacity_error(
                len(growing),
                len(growing) - len(left),
                fills,
                capacity=self._capacity,
                copies=each,
                places=sum(growing[token].copies for token in left),
            )
        out: list[int] = []
        if leave_out:
            out = self._make_room(len(entering), each, priority, fills, keep=set(there))
            fitting = fits(len(entering), rooms_of(fills, self._capacity).values(), each)
            left = {*left, *entering[fitting:]}
            entering = entering[:fitting]
        placed = place(
            dict.fromkeys(entering, mode),
            allowed,
            capacity=self._capacity,
            placed=fills,
            strategy=self._strategy,
            copies=each,
            last=self._lost,
        )
        # What gave way may have had more copies than the new ones need: the same call again must find nothing to do.
        for slot, new_ones in placed.items():
            more = len(new_ones)
            fills[slot] = Fill(fills[slot].instruments + more, fills[slot].load + LOAD[mode] * more)
        growing = {token: further for token, further in growing.items() if token in left}
        late, short = place_further(growing, mode, fills, capacity=self._capacity, last=self._lost)
        left -= growing.keys() - short

        # All of it fits: from here on nothing raises.
        for token in out:
            self._forget(token)
        for token, homes in surplus.items():
            if token not in left:
                self._leave(token, homes)
        for token in entering:
            if token in self._streams:
                self._leave(token, self.homes(token))
            else:
                self._add(token, mode, priority)
        for additions in (added, placed, late):
            for slot, added_there in additions.items():
                for token in added_there:
                    self._house(token, slot)
        touched = dict.fromkeys((*there, *entering))
        for token in touched:
            self._set_priority(token, priority)
            self._set_mode(token, mode)
            if within is not None and token not in left:
                self._streams[token].by_hand = True
                self._move_in(token, within)
        self._find_room(touched)
        return [*out, *(token for token in tokens if token in left)]

    # What a call asks for.

    def _named(self, account: str | Collection[str] | None) -> list[str] | None:
        """The accounts that a call names, each once; None when it names none, which stands for all."""
        if account is None:
            return None
        names = {account} if isinstance(account, str) else set(account)
        if not names:
            raise ValueError("got no name in account=, expected one or more, or None for all accounts")
        for name in sorted(names):
            self._check_account(name)
        return [name for name in self._accounts if name in names]

    def _allowed(self, names: Collection[str] | None, connection: int | None) -> list[Slot]:
        if connection is not None and names is None:
            raise ValueError(f"got connection {connection} without an account, expected account= with it")
        if connection is not None and names is not None and len(names) > 1:
            raise ValueError(f"got connection {connection} of {len(names)} accounts, expected one account with it")
        if connection is not None and not 1 <= connection <= self._connections:
            raise ValueError(f"got connection {connection}, expected 1 to {self._connections}")
        return [
            slot
            for slot in self._slots
            if (names is None or slot.account in names) and connection in (None, slot.connection)
        ]

    def _each(self, names: Collection[str] | None, copies: int | None) -> int:
        """How many copies of those that are new."""
        if copies is None:
            return self._copies if names is None else min(self._copies, len(names))
        check_limits(self._capacity, copies)
        if names is not None and copies > len(names):
            raise ValueError(
                f"got {copies} copies on {len(names)} accounts ({', '.join(names)}), expected at most one an account"
            )
        return copies

    def _is_as_asked(
        self, token: int, mode: Mode, priority: int, wanted: int | None, within: frozenset[Slot] | None
    ) -> bool:
        """Whether nothing is to do for a token that is there. The arguments are as in `subscribe` and `_sort_out`."""
        stream = self._streams[token]
        return (
            self._modes[token] is mode
            and stream.priority == priority
            and (wanted is None or len(stream.homes) == wanted)
            and (within is None or (stream.by_hand and stream.homes.keys() <= within))
        )

    # Planning: on `fills`, a copy of what the slots hold.

    def _sort_out(
        self, tokens: Iterable[int], wanted: int | None, within: Collection[Slot] | None
    ) -> tuple[list[int], dict[int, Further], dict[int, list[Slot]]]:
        """Tokens to be placed anew, those that get further copies, and homes to give up.

        `wanted` is the number of copies, `within` are the slots for them; None leaves what is there as it is.
        """
        entering = []
        growing: dict[int, Further] = {}
        surplus: dict[int, list[Slot]] = {}
        for token in tokens:
            stream = self._streams.get(token)
            on = [] if stream is None else list(stream.homes) if within is None else self._living_on(stream, within)
            if stream is None or not on:
                entering.append(token)
            elif wanted is not None:
                kept = self._best(stream, on, wanted)
                surplus[token] = [home for home in stream.homes if home not in kept]
                if len(kept) < wanted:
                    growing[token] = Further(wanted - len(kept), stream.accounts(kept))
        return entering, growing, surplus

    def _living_on(self, stream: Stream, slots: Collection[Slot]) -> list[Slot]:
        """The homes of the copies that live on these slots, or are guests there and can live there from now on."""
        return [
            home
            for home in stream.homes_on(slots)
            if home in slots or ((now := stream.homes[home]) is not None and self._held(now) <= self._capacity)
        ]

    def _best(self, stream: Stream, homes: Iterable[Slot], count: int) -> list[Slot]:
        """So many of these homes, or all: those whose copies are served first, then the oldest."""
        return sorted(homes, key=lambda home: not self._serves(stream.homes[home]))[:count]

    def _discount(self, fills: dict[Slot, Fill], token: int, homes: Iterable[Slot], sign: int = 1) -> None:
        """Take the copies of these homes out of `fills`; with a `sign` of -1, put them back."""
        load = LOAD[self._modes[token]]
        for home in homes:
            now = self._streams[token].homes[home]
            for slot in {home, now or home}:
                if (fill := fills.get(slot)) is not None:
                    fills[slot] = Fill(fill.instruments - sign, fill.load - sign * load * (slot == now))

    def _make_room(
        self, count: int, copies: int, priority: int, fills: dict[Slot, Fill], *, keep: Collection[int]
    ) -> list[int]:
        """Take out of `fills` no more than it needs of what is less important than `priority`, so that `count` fit."""

        def enough(wanted: int) -> bool:
            return all_fit(wanted, rooms_of(fills, self._capacity).values(), copies)

        if enough(count):
            return []
        less = [token for token, stream in self._streams.items() if stream.priority > priority and token not in keep]
        less.sort(key=lambda token: (-self._streams[token].priority, -self._streams[token].order))
        out = []
        for token in less:
            if enough(count):
                break
            if self._streams[token].homes_on(fills):
                self._discount(fills, token, self.homes(token))
                out.append(token)
        # Copies need room on different accounts, so some may have gone in vain: they stay, the important first.
        most = fits(count, rooms_of(fills, self._capacity).values(), copies)
        spared = set()
        for token in reversed(out):
            self._discount(fills, token, self.homes(token), -1)
            if enough(most):
                spared.add(token)
            else:
                self._discount(fills, token, self.homes(token))
        return [token for token in out if token not in spared]
