"""The session without a socket: states, messages, backoff and the sorting of failures."""

import asyncio
import itertools
import json
import socket
import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from pydantic import ValidationError
from websockets.datastructures import Headers
from websockets.exceptions import (
    ConnectionClosedError,
    ConnectionClosedOK,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    InvalidURI,
)
from websockets.frames import Close
from websockets.http11 import Response

from ingest.connection.session import RETRY, TRANSITIONS, Failure, Input, Reason, Retry, State, StreamSession, classify
from ingest.errors import AuthError, SessionError
from ingest.settings import ConnectionSettings
from ingest.wire import Mode

SETTINGS = ConnectionSettings()
DROPPED = Failure(Reason.DROPPED, "gone")


def session(random: float = 0.5, **changes: float) -> StreamSession:
    return StreamSession(ConnectionSettings.model_validate(changes), lambda: random)


def texts(of: StreamSession) -> list[object]:
    return [json.loads(message.text) for message in of.messages_to_send()]


# States


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Input)))
def test_every_pair_is_in_the_table_or_refused(state: State, event: Input) -> None:
    one = session()
    one.state = state
    if (state, event) in TRANSITIONS:
        one.step(event)
        assert one.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(SessionError, match=f"got {event} in state {state}, expected one of"):
            one.step(event)


def test_from_every_state_it_can_be_closed_and_begun_again() -> None:
    for start in State:
        reached = {start}
        while True:
            more = reached | {after for (before, _), after in TRANSITIONS.items() if before in reached}
            if more == reached:
                break
            reached = more
        assert {State.CLOSED, State.OPEN} <= reached, start


def test_closing_is_safe_in_every_state() -> None:
    assert {state for state, event in TRANSITIONS if event is Input.CLOSE} == set(State)


# Messages


def opened(**changes: float) -> StreamSession:
    one = session(**changes)
    one.step(Input.START)
    one.opened(0.0)
    return one


def test_bare_subscription_for_quote_and_a_mode_message_for_the_others() -> None:
    one = opened()
    one.subscribe([408065, 738561], Mode.QUOTE)
    assert texts(one) == [{"a": "subscribe", "v": [408065, 738561]}]
    one.subscribe([5633], Mode.FULL)
    assert texts(one) == [{"a": "subscribe", "v": [5633]}, {"a": "mode", "v": ["full", [5633]]}]


def test_nothing_is_sent_unless_open_and_everything_after_opening() -> None:
    one = session()
    one.subscribe([1, 2], Mode.FULL)
    one.subscribe([3], Mode.LTP)
    assert texts(one) == []
    one.step(Input.START)
    one.opened(0.0)
    expected = [
        {"a": "subscribe", "v": [1, 2, 3]},
        {"a": "mode", "v": ["full", [1, 2]]},
        {"a": "mode", "v": ["ltp", [3]]},
    ]
    assert texts(one) == expected
    assert texts(one) == [], "handed out once"
    one.lost(DROPPED, 10.0)
    assert texts(one) == []
    one.step(Input.DUE)
    one.opened(11.0)
    assert texts(one) == expected, "the server remembers nothing"


def test_a_change_sends_only_the_change() -> None:
    one = opened()
    one.subscribe([1, 2, 3], Mode.FULL)
    texts(one)
    one.subscribe([1, 2, 3], Mode.FULL)
    assert texts(one) == [], "duplicates are none"
    one.subscribe([2], Mode.QUOTE)
    assert texts(one) == [{"a": "mode", "v": ["quote", [2]]}]
    one.unsubscribe([3, 99])
    assert texts(one) == [{"a": "unsubscribe", "v": [3]}]
    assert dict(one.wanted) == {1: Mode.FULL, 2: Mode.QUOTE}


def test_large_lists_go_in_chunks() -> None:
    one = opened(tokens_per_message=1000)
    one.subscribe(range(1, 2502), Mode.LTP)
    messages = one.messages_to_send()
    assert [(message.action, len(message.tokens)) for message in messages] == [
        ("subscribe", 1000),
        ("subscribe", 1000),
        ("subscribe", 501),
        ("mode", 1000),
        ("mode", 1000),
        ("mode", 501),
    ]
    assert max(len(message.text) for message in messages) < 16_384


class Server:
    """What a server that follows the protocol streams: token -> mode."""

    def __init__(self) -> None:
        self.streams: dict[int, str] = {}

    def take(self, text: str) -> None:
        message = json.loads(text)
        match message["a"], message["v"]:
            case "subscribe", tokens:
                self.streams |= dict.fromkeys(tokens, "quote")
            case "unsubscribe", tokens:
                for token in tokens:
                    del self.streams[token]
            case "mode", [mode, tokens]:
                assert set(tokens) <= set(self.streams), "the mode of what is subscribed only"
                self.streams |= dict.fromkeys(tokens, mode)


class Conversation(RuleBasedStateMachine):
    """Whatever is wanted, lost and changed in whatever order: once all is sent, the server streams what is wanted."""

    tokens = st.lists(st.integers(1, 12), max_size=6)

    def __init__(self) -> None:
        super().__init__()
        self.session = session(tokens_per_message=3)
        self.session.step(Input.START)
        self.server = Server()
        self.wanted: dict[int, str] = {}
        self.now = 0.0

    @rule(tokens=tokens, mode=st.sampled_from(list(Mode)))
    def subscribe(self, tokens: list[int], mode: Mode) -> None:
        self.session.subscribe(tokens, mode)
        self.wanted |= dict.fromkeys(tokens, mode.value)

    @rule(tokens=tokens)
    def unsubscribe(self, tokens: list[int]) -> None:
        self.session.unsubscribe(tokens)
        self.wanted = {token: mode for token, mode in self.wanted.items() if token not in tokens}

    @precondition(lambda self: self.session.state is State.CONNECTING)
    @rule()
    def open(self) -> None:
        self.server = Server()
        self.session.opened(self.now)

    @precondition(lambda self: self.session.state is State.OPEN)
    @rule(sent=st.integers(0, 3))
    def lose(self, sent: int) -> None:
        """The socket goes while some messages are still to be sent."""
        for message in self.session.messages_to_send()[:sent]:
            self.server.take(message.text)
        self.now += 1
        assert self.session.lost(DROPPED, self.now) is not None
        self.session.step(Input.DUE)

    @invariant()
    def the_server_streams_what_is_wanted(self) -> None:
        for message in self.session.messages_to_send():
            self.server.take(message.text)
        assert dict(self.session.wanted) == self.wanted
        if self.session.state is State.OPEN:
            assert self.server.streams == self.wanted


TestConversation = Conversation.TestCase
TestConversation.settings = settings(stateful_step_count=30)


# Liveness


def test_silence_counts_from_the_last_bytes() -> None:
    one = opened()
    assert one.silent_for(105.9, 100.0) is None
    assert one.silent_for(106.0, 100.0) == 6.0


# Backoff


def waits(one: StreamSession, failures: int, *, lived: float = 0.0) -> list[float | None]:
    """The waits after so many failures, each of an opening that lived so long (0: none)."""
    found = []
    now = 0.0
    one.step(Input.START)
    for _ in range(failures):
        if lived:
            one.opened(now)
            now += lived
        found.append(one.lost(DROPPED, now))
        one.step(Input.DUE)
    return found


def test_backoff_doubles_to_the_cap_and_never_ends() -> None:
    assert waits(session(random=1.0), 9) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert waits(session(random=1.0), 3000)[-1] == 30


def test_backoff_is_fully_jittered() -> None:
    assert waits(session(random=0.0), 5) == [0, 0, 0, 0, 0]
    assert waits(session(random=0.5), 3) == [0.25, 0.5, 1]


def test_a_connection_that_lived_starts_backoff_again_and_one_that_did_not_goes_on() -> None:
    assert waits(session(random=1.0), 4, lived=2.0) == [0.5, 0.5, 0.5, 0.5]
    assert waits(session(random=1.0), 4, lived=0.1) == [0.5, 1, 2, 4]


@given(st.lists(st.sampled_from(list(Reason)), max_size=50), st.floats(0, 1, exclude_max=True))
def test_waits_are_bounded_whatever_fails(reasons: list[Reason], random: float) -> None:
    one = session(random=random)
    one.step(Input.START)
    for reason in reasons:
        wait = one.lost(Failure(reason, ""), 0.0)
        match RETRY[reason]:
            case Retry.NEVER:
                assert wait is None
                assert one.state is State.FAILED
                return
            case Retry.TOKEN:
                assert wait is None
                assert one.state is State.UNAUTHORIZED
            case Retry.SLOW:
                assert wait is not None
                assert 30 <= wait <= 37.5, "never sooner: a refusal is not hammered"
            case Retry.BACKOFF:
                assert wait is not None
                assert 0 <= wait <= 30
        one.step(Input.DUE)


def test_every_reason_has_a_policy() -> None:
    assert set(RETRY) == set(Reason)


# Failures


def status(code: int, phrase: str = "", body: bytes = b"") -> InvalidStatus:
    return InvalidStatus(Response(code, phrase, Headers(), body))


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


EXPECTED = [
    (status(403, "Forbidden"), Reason.CREDENTIALS, Retry.TOKEN),
    (status(401, "Unauthorized"), Reason.CREDENTIALS, Retry.TOKEN),
    (status(429, "Too Many Requests"), Reason.BUSY, Retry.SLOW),
    (status(400, "Bad Request"), Reason.REFUSED, Retry.SLOW),
    (status(302, "Found"), Reason.REFUSED, Retry.SLOW),
    (status(500), Reason.SERVER, Retry.BACKOFF),
    (status(502, "Bad Gateway"), Reason.SERVER, Retry.BACKOFF),
    (status(504), Reason.SERVER, Retry.BACKOFF),
    (socket.gaierror(-2, "Name or service not known"), Reason.NETWORK, Retry.BACKOFF),
    (ConnectionRefusedError(111, "Connection refused"), Reason.NETWORK, Retry.BACKOFF),
    (ConnectionResetError(104, "Connection reset by peer"), Reason.NETWORK, Retry.BACKOFF),
    (TimeoutError("timed out during opening handshake"), Reason.NETWORK, Retry.BACKOFF),
    (asyncio.IncompleteReadError(b"", 2), Reason.NETWORK, Retry.BACKOFF),
    (ssl.SSLError(1, "wrong version number"), Reason.NETWORK, Retry.BACKOFF),
    (ssl.SSLCertVerificationError(1, "self-signed certificate"), Reason.CERTIFICATE, Retry.NEVER),
    (caused(InvalidMessage("no valid answer"), EOFError()), Reason.NETWORK, Retry.BACKOFF),
    (InvalidMessage("no valid answer"), Reason.REFUSED, Retry.SLOW),
    (InvalidUpgrade("Upgrade", "h2c"), Reason.REFUSED, Retry.SLOW),
    (InvalidURI("x://y", "scheme isn't ws or wss"), Reason.ADDRESS, Retry.NEVER),
    (ConnectionClosedError(None, None), Reason.DROPPED, Retry.BACKOFF),
    (ConnectionClosedOK(Close(1001, "going away"), Close(1001, ""), True), Reason.DROPPED, Retry.BACKOFF),
    (RuntimeError("a fault of ours"), Reason.INTERNAL, Retry.BACKOFF),
]


@pytest.mark.parametrize(("error", "reason", "retry"), EXPECTED, ids=lambda value: repr(value)[:60])
def test_classify(error: Exception, reason: Reason, retry: Retry) -> None:
    failure = classify(error)
    assert (failure.reason, failure.retry) == (reason, retry)
    assert failure.message


def test_classify_quotes_the_answer() -> None:
    failure = classify(status(403, "Forbidden", b'{"message":"Token is invalid or has expired."}'))
    assert failure.code == 403
    assert "Token is invalid or has expired." in failure.message


def test_classify_says_why_an_open_socket_ended() -> None:
    assert classify(ConnectionClosedError(Close(1011, "oops"), None)).code == 1011
    reset = caused(ConnectionClosedError(None, None), ConnectionResetError(104, "Connection reset by peer"))
    assert "ConnectionResetError" in classify(reset).message


def test_an_address_is_never_quoted() -> None:
    assert "canary" not in classify(InvalidURI("x://y?access_token=canary", "scheme")).message


def test_without_a_token_it_waits_for_one() -> None:
    failure = classify(AuthError("account one has no access token: log in first"))
    assert (failure.reason, failure.retry, failure.code) == (Reason.CREDENTIALS, Retry.TOKEN, None)


# Asking again


def test_asking_again_ends_the_subscription_and_begins_it() -> None:
    one = opened()
    one.subscribe([1, 2], Mode.FULL)
    one.subscribe([3], Mode.QUOTE)
    texts(one)
    one.ask_again([1, 3, 99])
    assert texts(one) == [
        {"a": "unsubscribe", "v": [1, 3]},
        {"a": "subscribe", "v": [1, 3]},
        {"a": "mode", "v": ["full", [1]]},
    ]
    one.ask_mode([2, 3, 99])
    assert texts(one) == [{"a": "mode", "v": ["full", [2]]}, {"a": "mode", "v": ["quote", [3]]}]
    one.ask_to_stop([1, 99])
    assert texts(one) == [{"a": "unsubscribe", "v": [99]}]


def test_nothing_is_asked_again_unless_open() -> None:
    one = session()
    one.subscribe([1], Mode.FULL)
    one.ask_again([1])
    one.ask_mode([1])
    assert texts(one) == []


def test_wanting_exactly_these_sends_the_difference() -> None:
    one = opened()
    one.subscribe([1, 2], Mode.FULL)
    texts(one)
    one.want({2: Mode.LTP, 3: Mode.QUOTE})
    assert texts(one) == [
        {"a": "unsubscribe", "v": [1]},
        {"a": "subscribe", "v": [3]},
        {"a": "mode", "v": ["ltp", [2]]},
    ]


# Settings


@pytest.mark.parametrize(
    "wrong",
    [{"livenes_seconds": 6}, {"liveness_seconds": 0}, {"tokens_per_message": 3001}, {"backoff_cap_seconds": "x"}],
)
def test_settings_are_checked_when_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ConnectionSettings.model_validate(wrong)


def test_settings_are_frozen_and_every_one_is_explained() -> None:
    with pytest.raises(ValidationError):
        SETTINGS.liveness_seconds = 1.0
    assert all(field.description for field in ConnectionSettings.model_fields.values())
