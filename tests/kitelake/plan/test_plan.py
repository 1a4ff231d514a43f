"""Lists become wants, wants become connections: each instrument once, the important first, the unknown left aside."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.instruments.listing import Instruments, parse_instruments
from ingest.instruments.underlyings import Price
from ingest.manager.want import Want
from ingest.settings import ManagerSettings
from ingest.wire import Mode
from kitelake.config.calendar import CalendarSection
from kitelake.config.subscriptions import SubscriptionList
from kitelake.plan.list_hours import hours_of_lists
from kitelake.plan.name_lists import read_names
from kitelake.plan.plan import ListPlan, phases, recentred, resolve, wanted
from kitelake.schedule.calendar import Calendar
from kitelake.schedule.windows import ListHours
from storage.clock import IST
from tests.support.lists import OF_PLANS

INFY, RELIANCE, NIFTY, NOV, DEC, LOW, MIDDLE, HIGH = 408065, 738561, 256265, 258, 514, 770, 1026, 1282
AROUND_SPOT = {"underlying": "NSE:NIFTY 50", "types": ["CE"], "strikes": {"around": "spot", "count": 0}}


@pytest.fixture(scope="module")
def instruments() -> Instruments:
    return Instruments(parse_instruments(OF_PLANS, date=dt.date(2026, 11, 23)))


def spec(name: str = "a", **options: Any) -> SubscriptionList:
    if not options.keys() & {"instruments", "select", "file", "url"}:
        options["instruments"] = ["NSE:INFY"]
    return SubscriptionList.model_validate({"name": name, **options})


def resolved(one: SubscriptionList, instruments: Instruments, price: float | None = None, **options: Any) -> ListPlan:
    def price_of(token: int) -> Price | None:
        return Price(price, "the test") if price and token == NIFTY else None

    return resolve(one, instruments, price_of=price_of, default_mode=Mode.QUOTE, **options)


class TestOneList:
    def test_names_and_tokens_each_once_in_order(self, instruments: Instruments) -> None:
        plan = resolved(spec(instruments=["NSE:RELIANCE", 408065, "NSE:INFY"]), instruments)
        assert plan.tokens == (RELIANCE, INFY)
        assert plan.mode is Mode.QUOTE
        assert not plan.problems

    def test_what_is_unknown_is_named_with_what_is_near(self, instruments: Instruments) -> None:
        plan = resolved(spec(instruments=["NSE:INFYY", "NSE:RELIANCE", 99]), instruments)
        assert plan.tokens == (RELIANCE,)
        assert plan.missing == ("NSE:INFYY", "99")
        (problem,) = plan.problems
        assert "NSE:INFYY (did you mean NSE:INFY?)" in problem
        assert "99" in problem

    def test_names_of_a_file(self, instruments: Instruments) -> None:
        plan = resolved(spec(file="some.csv"), instruments, names=["NSE:INFY", "408065", "258"])
        assert plan.tokens == (INFY, NOV)

    @pytest.mark.parametrize(
        ("row", "listed", "note"),
        [
            ("ABCLTD,EQ", "ABCLTD", None),
            ("ABCLTD,EQ", "ABCLTD-BE", "NSE:ABCLTD as NSE:ABCLTD-BE"),
            ("ABCLTD,EQ", "ABCLTD-SM", "NSE:ABCLTD as NSE:ABCLTD-SM"),
            ("ABCLTD,BE", "ABCLTD-BE", None),
            ("ABCLTD,BE", "ABCLTD", "NSE:ABCLTD-BE as NSE:ABCLTD"),
            ("ABCLTD,BE", "ABCLTD-BZ", "NSE:ABCLTD-BE as NSE:ABCLTD-BZ"),
            ("ABCLTD,ST", "ABCLTD-SZ", "NSE:ABCLTD-ST as NSE:ABCLTD-SZ"),
            ("BAJAJ-AUTO,EQ", "BAJAJ-AUTO-BE", "NSE:BAJAJ-AUTO as NSE:BAJAJ-AUTO-BE"),
        ],
    )
    def test_a_share_is_found_in_the_series_that_it_is_of_by_now(self, row: str, listed: str, note: str | None) -> None:
        today = (
            OF_PLANS.decode()
            + f"1537,6,{listed},ABC,0,,0,0.05,1,EQ,NSE,NSE\n1793,7,ABCLTD-N1,ABC,0,,0,0.01,1,EQ,NSE,NSE\n"
        )
        instruments = Instruments(parse_instruments(today.encode(), date=dt.date(2026, 11, 23)))
        names = read_names(f"Symbol,Series\n{row}\nINFY,EQ\n".encode(), "list")
        plan = resolved(spec(file="some.csv"), instruments, names=names)
        assert (plan.tokens, plan.problems, plan.missing) == ((1537, INFY), (), ())
        assert plan.notes == ((f"shares of another series than the list says: {note}",) if note else ())

    @pytest.mark.parametrize("name", ["NSE:ABCLTD", "ABCLTD,N2", "ABCLTD,E1", "OTHER,EQ"])
    def test_what_is_no_share_that_moved_is_not_in_the_list(self, name: str) -> None:
        """A name as such is taken at its word; debt and partly paid shares are other securities."""
        today = (
            OF_PLANS.decode()
            + "1537,6,ABCLTD-BE,ABC,0,,0,0.05,1,EQ,NSE,NSE\n1793,7,OTHER-N1,O,0,,0,0.01,1,EQ,NSE,NSE\n"
        )
        instruments = Instruments(parse_instruments(today.encode(), date=dt.date(2026, 11, 23)))
        names = read_names(f"Symbol,Series\n{name}\n".encode() if "," in name else name.encode(), "list")
        plan = resolved(spec(file="some.csv"), instruments, names=names)
        assert (plan.tokens, plan.notes, plan.missing) == ((), (), tuple(names))
        assert len(plan.problems) == 1

    def test_strikes_around_spot_bring_their_underlying_in_ltp_mode(self, instruments: Instruments) -> None:
        plan = resolved(spec(mode="full", select=AROUND_SPOT), instruments, 24_510.0)
        assert plan.tokens == (MIDDLE,)
        assert plan.references[NIFTY] == "NSE:NIFTY 50"
        assert "24,510" in plan.notes[0]
        together = wanted([plan])
        assert together[MIDDLE].mode is Mode.FULL
        assert together[NIFTY].mode is Mode.LTP

    def test_without_a_price_the_underlying_alone_is_streamed_so_that_one_comes(self, instruments: Instruments) -> None:
        plan = resolved(spec(select=AROUND_SPOT), instruments)
        assert plan.tokens == ()
        assert plan.problems
        assert plan.unpriced == plan.problems
        assert NIFTY in wanted([plan])


class TestResolvedAnew:
    def test_a_list_adds_and_drops_only_if_it_is_told_to(self, instruments: Instruments) -> None:
        for drop, expected in ((False, {LOW, HIGH}), (True, {HIGH})):
            one = spec(select=AROUND_SPOT, every="15m", drop=drop)
            before, after = (resolved(one, instruments, price) for price in (24_400.0, 24_600.0))
            assert set(recentred(before, after, instruments).tokens) == expected

    def test_an_expiry_without_a_price_is_waited_for_although_another_has_one(self) -> None:
        """The strikes of that expiry are captured as soon as its future trades, without `every`."""
        rows = [
            "256007,1,GAS26DECFUT,GAS,0,2026-12-28,0,0.1,1,FUT,MCX-FUT,MCX",
            "512007,2,GAS27JANFUT,GAS,0,2027-01-27,0,0.1,1,FUT,MCX-FUT,MCX",
            "775,3,GAS26DEC300CE,GAS,0,2026-12-23,300,0.1,1,CE,MCX-OPT,MCX",
            "1031,4,GAS26DEC340CE,GAS,0,2026-12-23,340,0.1,1,CE,MCX-OPT,MCX",
            "1287,5,GAS27JAN300CE,GAS,0,2027-01-22,300,0.1,1,CE,MCX-OPT,MCX",
            "1543,6,GAS27JAN340CE,GAS,0,2027-01-22,340,0.1,1,CE,MCX-OPT,MCX",
        ]
        listed = Instruments(
            parse_instruments("\n".join([OF_PLANS.decode().splitlines()[0], *rows]).encode(), date=DAY)
        )
        one = spec(select={"names": ["GAS"], "types": ["CE"], "strikes": {"around": "spot", "count": 0}})
        prices = {256007: Price(300.0, "the live stream")}
        plan = resolve(one, listed, price_of=prices.get, default_mode=Mode.QUOTE)
        assert [listed.symbol(token) for token in plan.tokens] == ["MCX:GAS26DEC300CE"]
        assert plan.problems == plan.unpriced != ()
        later = resolve(
            one, listed, price_of=(prices | {512007: Price(338.0, "the live stream")}).get, default_mode=Mode.QUOTE
        )
        assert [listed.symbol(token) for token in later.tokens] == ["MCX:GAS26DEC300CE", "MCX:GAS27JAN340CE"]
        assert later.unpriced == ()

    def test_nothing_is_dropped_for_want_of_a_price(self, instruments: Instruments) -> None:
        one = spec(select=AROUND_SPOT, every="15m", drop=True)
        kept = recentred(resolved(one, instruments, 24_400.0), resolved(one, instruments), instruments)
        assert kept.tokens == (LOW,)
        assert kept.problems


class TestTogether:
    def test_the_highest_mode_and_the_best_priority_win(self, instruments: Instruments) -> None:
        lists = [
            resolved(spec("all", mode="ltp", priority=9, instruments=["NSE:INFY", "NSE:RELIANCE"]), instruments),
            resolved(spec("some", mode="quote", priority=5, accounts=["one"]), instruments),
            resolved(spec("few", mode="full", priority=7, accounts=["two"], copies=1), instruments),
        ]
        together = wanted(lists)
        assert together == {
            INFY: Want(Mode.FULL, 5, replicas=1, accounts=("one",)),
            RELIANCE: Want(Mode.LTP, 9),
        }
        assert list(together) == [INFY, RELIANCE], "the most important first"

    def test_on_no_more_accounts_than_the_list_that_says_where_has(self, instruments: Instruments) -> None:
        lists = [
            resolved(spec("where", accounts=["one"]), instruments),
            resolved(spec("many", priority=7, copies=2), instruments),
        ]
        assert wanted(lists)[INFY].replicas == 1

    def test_the_first_of_equally_important_lists_says_where(self, instruments: Instruments) -> None:
        lists = [resolved(spec(name, accounts=[name]), instruments) for name in ("b", "a")]
        assert wanted(lists)[INFY].accounts == ("b",)

    @given(st.lists(st.tuples(st.sampled_from(list(Mode)), st.integers(0, 3), st.sets(st.integers(1, 9))), max_size=6))
    def test_each_once_and_as_its_lists_want_it(self, drawn: list[tuple[Mode, int, set[int]]]) -> None:
        rank = [Mode.LTP, Mode.QUOTE, Mode.FULL].index
        lists = [
            ListPlan(spec(str(place), priority=priority), mode, tuple(sorted(tokens)))
            for place, (mode, priority, tokens) in enumerate(drawn)
        ]
        together = wanted(lists)
        for token in range(1, 10):
            of_it = [(mode, priority) for mode, priority, tokens in drawn if token in tokens]
            if of_it:
                assert together[token].mode is max((mode for mode, _ in of_it), key=rank)
                assert together[token].priority == min(priority for _, priority in of_it)
        assert set(together) == set().union(*(tokens for _, _, tokens in drawn))
        assert [want.priority for want in together.values()] == sorted(want.priority for want in together.values())


DAY = dt.date(2026, 11, 23)


def hours_of(lists: list[ListPlan], calendar: Calendar) -> dict[str, ListHours]:
    plans = {plan.name: plan for plan in lists}
    return hours_of_lists([plan.spec for plan in lists], plans, calendar, DAY)


class TestPhases:
    def test_the_day_is_cut_where_lists_start_and_stop(self, instruments: Instruments) -> None:
        lists = [resolved(spec("day"), instruments), resolved(spec("late", session="MCX"), instruments)]
        hours = hours_of(lists, Calendar(CalendarSection()))
        found = phases(lists, hours, ["one"], ManagerSettings())
        assert [(f"{phase.span.start:%H:%M}", f"{phase.span.stop:%H:%M}") for phase in found] == [
            ("08:40", "08:55"),
            ("08:55", "16:15"),
            ("16:15", "00:00"),
        ]
        assert [[plan.name for plan in phase.lists] for phase in found] == [["late"], ["day", "late"], ["late"]]
        assert found[0].span.start == dt.datetime(2026, 11, 23, 8, 40, tzinfo=IST)

    def test_a_list_of_two_exchanges_is_streamed_in_the_hours_of_each(self, instruments: Instruments) -> None:
        lists = [
            resolved(spec("both", instruments=["NSE:INFY", "NFO:NIFTY26NOVFUT", "BFO:SENSEX26NOVFUT"]), instruments)
        ]
        found = phases(lists, hours_of(lists, Calendar(CalendarSection())), ["one"], ManagerSettings())
        assert [(f"{phase.span.start:%H:%M}", f"{phase.span.stop:%H:%M}", set(phase.wanted)) for phase in found] == [
            ("08:55", "16:15", {INFY, NOV}),
            ("16:15", "16:25", {NOV}),
        ]

    def test_what_has_no_room_is_left_out_the_least_important_first(self, instruments: Instruments) -> None:
        lists = [
            resolved(spec("rest", mode="ltp", priority=9, instruments=[INFY, RELIANCE, NIFTY, NOV]), instruments),
            resolved(spec("best", mode="full", instruments=[NOV, DEC]), instruments),
        ]
        hours = hours_of(lists, Calendar(CalendarSection(always_open=True)))
        (phase,) = phases(lists, hours, ["one"], ManagerSettings(connections=1, instruments_per_connection=3))
        (there,) = phase.allocation.placement().values()
        assert there == {NOV: Mode.FULL, DEC: Mode.FULL, INFY: Mode.LTP}
        assert set(phase.left_out) == {RELIANCE, NIFTY}
