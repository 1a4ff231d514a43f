"""Which slots instruments get as their homes. The same input gives the same homes.

A replica takes a place of its home, also while it is away, and of the slot that streams it meanwhile. What has its
homes keeps them. What lacks some gets them where places are free, or, with `leave_out`, instead of what is less
important:

- One replica goes to the slot with the least load, so that whatever fits in total is placed.
- Replicas go to different accounts: those with the most room left. n instruments of k replicas fit if and only if the
  accounts' rooms, none counted beyond n, add up to n · k; taking the roomiest accounts keeps that true.
- A slot that is lost at present comes after those that work.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ingest.errors import CapacityError
from ingest.manager.replicas import Placement, Replica, Replicas
from ingest.manager.want import LOAD, Connections, Slot, Want, deal
from ingest.settings import Strategy


def all_fit(count: int, rooms: Iterable[int], replicas: int) -> bool:
    """Whether `count` instruments fit on accounts with so many free places each, every replica on another account."""
    return sum(min(room, count) for room in rooms) >= count * replicas


def fits(count: int, rooms: Collection[int], replicas: int) -> int:
    """How many of `count` instruments fit on accounts with so many free places each."""
    if all_fit(count, rooms, replicas):
        return count
    return bisect_left(range(1, count + 1), True, key=lambda some: not all_fit(some, rooms, replicas))


class HomeSlots:
    """Gives homes to instruments of one want."""

    def __init__(self, placement: Placement, connections: Connections, want: Want) -> None:
        self._placement = placement
        self._connections = connections
        self._want = want
        self._each = want.replicas or 1
        self._allowed = [slot for slot in connections.slots if want.allows(slot)]

    def give(self, tokens: Sequence[int], *, leave_out: bool) -> tuple[list[int], list[int]]:
        """Give homes to these, which want something else as yet. Returns those that found no room, which keep what they
        have, and those that gave way to them.

        With `leave_out`, what has no replica yet where it is wanted takes the place of what has a larger priority
        number, which then is removed. Without, raises CapacityError when one of them finds no room.
        """
        there = self._placement.there
        entering = [token for token in tokens if token not in there]
        growing: list[tuple[Replicas, list[int]]] = []
        placed = self._placement.alike(token for token in tokens if token in there)
        for _, replicas, some in placed:
            kept = self._kept(replicas)
            if not kept:
                entering += some
            elif len(kept) < self._each:
                growing.append((kept, some))
            else:
                self._placement.put(some, self._want, kept)
        # Those of which a replica streams already take free places only: a further one is not worth another's only one.
        left = {token for kept, some in growing for token in self._add(kept, some)}
        if left and not leave_out:
            places = sum((self._each - len(kept)) * len(left.intersection(some)) for kept, some in growing)
            count = sum(len(some) for _, some in growing)
            raise self._error(count, count - len(left), places)
        gone = self._make_room(len(entering)) if leave_out else []
        if placed:
            wanted = set(entering)
            entering = [token for token in tokens if token in wanted]
        fitting = fits(len(entering), self._rooms().values(), self._each)
        if fitting < len(entering) and not leave_out:
            raise self._error(len(entering), fitting, len(entering) * self._each)
        # What they have elsewhere is given up. Balanced, the order in which they are named does not matter.
        entering, none = entering[:fitting], entering[fitting:]
        self._placement.leave(entering)
        self._placement.wants.update(dict.fromkeys(entering, self._placement.shared(self._want)))
        self._add((), entering if self._connections.strategy is Strategy.ROUND_ROBIN else sorted(entering))
        left.update(none)
        return [token for token in tokens if token in left], gone

    def _kept(self, replicas: Replicas) -> Replicas:
        """The replicas that may stay, no more than are wanted: those that are served before others, the oldest first.

        What is away, on a slot where it is wanted by hand, is at home there from now on if there is a place for a home:
        it need not move.
        """
        found = []
        for replica in replicas:
            home, current = replica
            if self._want.allows(home):
                found.append(replica)
            elif current is not None and self._want.allows(current) and not self._is_overfull(current):
                found.append(Replica(current, current))
        best = sorted(found, key=lambda replica: replica.current_slot not in self._connections.working)[: self._each]
        return tuple(replica for replica in found if replica in best)

    def _is_overfull(self, slot: Slot) -> bool:
        return self._placement.held[slot] > self._connections.capacity

    def _room(self, slot: Slot) -> int:
        return max(self._connections.capacity - self._placement.held[slot], 0)

    def _rooms(self) -> dict[str, int]:
        """The free places of each account."""
        rooms: dict[str, int] = defaultdict(int)
        for slot in self._allowed:
            rooms[slot.account] += self._room(slot)
        return rooms

    def _deal(self, slots: Sequence[Slot]) -> Iterator[Slot]:
        """The slot for one after the other, while there is room: one that works, with the least load (dealt: the
        fewest instruments)."""
        dealt = self._connections.strategy is Strategy.ROUND_ROBIN
        weights, step = (self._placement.held, 1) if dealt else (self._placement.load, LOAD[self._want.mode])
        lost = self._connections.lost
        return deal(((slot, self._room(slot), slot in lost, weights[slot]) for slot in slots), step)

    def _add(self, kept: Replicas, tokens: Sequence[int]) -> Sequence[int]:
        """Give these the replicas that they lack beside those that they keep, each on another account, if there is room
        for all. Returns those for which there is none: the last ones."""
        lacking = self._each - len(kept)
        taken = {slot.account for replica in kept for slot in replica if slot is not None}
        slots: dict[str, list[Slot]] = defaultdict(list)
        for slot in self._allowed:
            if slot.account not in taken:
                slots[slot.account if self._each > 1 else ""].append(slot)  # one replica: of all slots the best
        if len(slots) < lacking:
            return tokens
        choices: Iterator[tuple[Slot, ...]] = zip(*map(self._deal, slots.values()), strict=False)
        if len(slots) > lacking:
            choices = self._choose(slots, lacking, len(tokens))
        together: dict[tuple[Slot, ...], list[int]] = defaultdict(list)
        for token, on in zip(tokens, choices, strict=False):
            together[on].append(token)
        for on, some in together.items():
            self._placement.put(some, self._want, (*kept, *(Replica(slot, slot) for slot in on)))
        return tokens[sum(map(len, together.values())) :]

    def _choose(self, slots: Mapping[str, Sequence[Slot]], number: int, count: int) -> Iterator[tuple[Slot, ...]]:
        """Slots of this number of accounts for one of `count` after the other, while there is room."""
        lost = self._connections.lost
        rooms = {account: sum(map(self._room, some)) for account, some in slots.items()}
        early = {account: sum(self._room(slot) for slot in some if slot not in lost) for account, some in slots.items()}
        deals = {account: self._deal(some) for account, some in slots.items()}
        some_are_lost = rooms != early
        for remaining in reversed(range(count)):
            chosen = sorted(slots, key=lambda account: (-early[account], -rooms[account]))[:number]
            # Were those that work filled first, the last instruments might find room on too few accounts.
            if some_are_lost and not (
                all(rooms[account] for account in chosen)
                and all_fit(remaining, (room - (account in chosen) for account, room in rooms.items()), number)
            ):
                chosen = sorted(slots, key=lambda account: -rooms[account])[:number]
            if not all(rooms[account] for account in chosen):
                return
            for account in chosen:
                rooms[account] -= 1
                early[account] -= early[account] > 0
            yield tuple([next(deals[account]) for account in chosen])

    def _make_room(self, count: int) -> list[int]:
        """Remove no more than it needs of what is less important, so that `count` find room: of the largest priority
        number first, and the latest subscribed first. Returns them in that order."""
        rooms, held, capacity = self._rooms(), dict(self._placement.held), self._connections.capacity

        def lacking(count: int) -> int:
            """How many places for so many are missing. See `all_fit`."""
            return count * self._each - sum(min(room, count) for room in rooms.values())

        def free(slots: Iterable[Slot], number: int, most: int) -> int:
            """Let so many more places of each be free. Returns how many more of them are of use to at most `most`."""
            gained = 0
            for slot in slots:
                room = rooms[slot.account]
                rooms[slot.account] += max(capacity - held[slot] + number, 0) - max(capacity - held[slot], 0)
                held[slot] -= number
                gained += min(rooms[slot.account], most) - min(room, most)
            return gained

        if (missing := lacking(count)) <= 0:
            return []
        there, allowed = self._placement.there, frozenset(self._allowed)
        less = [token for token, want in reversed(self._placement.wants.items()) if want.priority > self._want.priority]
        slots = {
            token: here
            for _, replicas, tokens in self._placement.alike(less)
            if (here := allowed.intersection(slot for replica in replicas for slot in replica if slot is not None))
            for token in tokens
        }
        out = []
        for token in sorted(filter(slots.__contains__, less), key=lambda token: -there[token][0].priority):
            out.append(token)
            missing -= free(slots[token], 1, count)
            if missing <= 0:
                break
        # Replicas need room on different accounts, so some may have gone in vain: they stay, the important first.
        most = fits(count, rooms.values(), self._each)
        missing = lacking(most)
        spared: set[int] = set()
        needed: set[frozenset[Slot]] = set()  # what is needed once is needed whatever else stays
        for token in reversed(out):
            if slots[token] in needed:
                continue
            lost = -free(slots[token], -1, most)
            if missing + lost <= 0:
                missing += lost
                spared.add(token)
            else:
                free(slots[token], 1, most)
                needed.add(slots[token])
        gone = [token for token in out if token not in spared]
        self._placement.remove(gone)
        return gone

    def _error(self, count: int, fitting: int, places: int) -> CapacityError:
        """That of `count` instruments, which need so many `places`, only so many are `fitting`."""
        capacity, slots, each = self._connections.capacity, self._allowed, self._each
        total = capacity * len(slots)
        wanted = total - sum(self._rooms().values()) + places
        accounts = list(dict.fromkeys(slot.account for slot in slots))
        if each == 1:
            message = (
                f"{wanted:,} instruments do not fit on {len(slots)} connections of {capacity:,}: "
                f"{total:,} is the capacity, {wanted - total:,} are too many"
            )
        elif each > len(accounts):
            names = f": {', '.join(accounts)}" if accounts else ""
            message = f"{each} copies of {count:,} instruments need {each} accounts, got {len(accounts)}{names}"
        else:
            message = (
                f"{each} copies of {count:,} instruments do not fit on {len(accounts)} accounts with {len(slots)} "
                f"connections of {capacity:,}: there is room for {fitting:,}, {count - fitting:,} are too many"
            )
        return CapacityError(message, wanted=wanted, capacity=total)
