"""What a connection has subscribed to, request by request."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.server.source import StreamMode
from ingest.server.subscriptions import Answer, Subscriptions
from tests.support.scripted_source import ScriptedSource

SOURCE = ScriptedSource(200)
TOKENS = SOURCE.tokens.tolist()


def ask(one: Subscriptions, action: str, value: object, every: int = 0) -> Answer:
    return one.request(json.dumps({"a": action, "v": value}), lambda: every)


def modes(one: Subscriptions) -> dict[int, StreamMode]:
    return {TOKENS[row]: StreamMode(one.modes[row]) for row in np.flatnonzero(one.modes)}


def test_a_bare_subscribe_is_quote_and_brings_the_cached_packet() -> None:
    one = Subscriptions(SOURCE, 3000)
    answer = ask(one, "subscribe", TOKENS[:3])
    assert answer.first.tolist() == [0, 1, 2]
    assert answer.error is None
    assert modes(one) == dict.fromkeys(TOKENS[:3], StreamMode.QUOTE)


def test_a_token_subscribed_twice_is_taken_once() -> None:
    one = Subscriptions(SOURCE, 3000)
    assert ask(one, "subscribe", [TOKENS[0], TOKENS[0], TOKENS[1]]).first.tolist() == [0, 1]
    ask(one, "mode", ["full", [TOKENS[0]]])
    assert ask(one, "subscribe", [TOKENS[0], TOKENS[2]]).first.tolist() == [2]
    assert len(one) == 3
    assert modes(one)[TOKENS[0]] is StreamMode.FULL, "and keeps its mode"


def test_the_first_of_too_many_are_kept() -> None:
    one = Subscriptions(SOURCE, 5)
    answer = ask(one, "subscribe", TOKENS[:7])
    assert answer.first.tolist() == [0, 1, 2, 3, 4]
    assert answer.error == "Maximum of 5 instruments a connection: 2 instrument(s) were not subscribed"
    assert ask(one, "subscribe", TOKENS[:1]).error is None, "it is subscribed already"
    ask(one, "unsubscribe", TOKENS[:1])
    assert ask(one, "subscribe", TOKENS[6:8]).first.tolist() == [6]


def test_unknown_tokens_are_taken_silently_and_count() -> None:
    one = Subscriptions(SOURCE, 2)
    answer = ask(one, "subscribe", [4, TOKENS[0]])
    assert answer.first.tolist() == [0]
    assert answer.error is None
    assert len(one) == 2
    assert ask(one, "subscribe", [TOKENS[1]]).error is not None


def test_mode_changes_what_is_subscribed_only() -> None:
    one = Subscriptions(SOURCE, 3000)
    ask(one, "subscribe", TOKENS[:2])
    assert ask(one, "mode", ["full", TOKENS[:3]]).first.tolist() == [0, 1]
    assert modes(one) == dict.fromkeys(TOKENS[:2], StreamMode.FULL)
    assert ask(one, "mode", ["full", TOKENS[:2]]).first.tolist() == [], "nothing has changed"
    assert ask(one, "mode", ["ltp", TOKENS[:1]]).first.tolist() == [0]
    assert modes(one) == {TOKENS[0]: StreamMode.LTP, TOKENS[1]: StreamMode.FULL}


def test_unsubscribed_is_gone() -> None:
    one = Subscriptions(SOURCE, 3000)
    ask(one, "subscribe", TOKENS[:2])
    answer = ask(one, "unsubscribe", [TOKENS[0], 99])
    assert not len(answer.first)
    assert not len(answer.taken)
    assert answer.error is None
    assert modes(one) == {TOKENS[1]: StreamMode.QUOTE}
    assert len(one) == 1


def test_ignored_tokens_are_taken_and_never_streamed() -> None:
    one = Subscriptions(SOURCE, 3000)
    answer = ask(one, "subscribe", TOKENS[:7], every=3)
    assert answer.first.tolist() == [0, 1, 3, 4, 6]
    assert answer.taken.tolist() == list(range(7))
    assert np.flatnonzero(one.ignored).tolist() == [2, 5]
    ask(one, "mode", ["full", TOKENS[:7]])
    assert [StreamMode(one.ignored[row]) for row in (2, 5)] == [StreamMode.FULL, StreamMode.FULL]
    ask(one, "unsubscribe", TOKENS[:7])
    assert not one.ignored.any()


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ("{", "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[1]", "expected an object"),
        (b"\x00\x01", "expected a text message"),
        ('{"v": [1]}', '"a" must be one of'),
        ('{"a": "buy", "v": [1]}', '"a" must be one of'),
        ('{"a": ["subscribe"], "v": [1]}', '"a" must be one of'),
        ('{"a": "subscribe"}', "list of instrument tokens"),
        ('{"a": "subscribe", "v": 408065}', "list of instrument tokens"),
        ('{"a": "subscribe", "v": ["408065"]}', "list of instrument tokens"),
        ('{"a": "subscribe", "v": [true]}', "list of instrument tokens"),
        ('{"a": "subscribe", "v": [-1]}', "list of instrument tokens"),
        ('{"a": "subscribe", "v": [4294967296]}', "list of instrument tokens"),
        ('{"a": "unsubscribe", "v": {}}', "list of instrument tokens"),
        ('{"a": "mode", "v": "full"}', "[mode, [instrument tokens]]"),
        ('{"a": "mode", "v": ["full"]}', "[mode, [instrument tokens]]"),
        ('{"a": "mode", "v": ["fast", [1]]}', "one of ltp, quote, full"),
        ('{"a": "mode", "v": [[], [1]]}', "one of ltp, quote, full"),
        ('{"a": "mode", "v": ["full", [1.5]]}', "list of instrument tokens"),
    ],
)
def test_bad_requests_get_an_error_text_and_change_nothing(message: str | bytes, complaint: str) -> None:
    one = Subscriptions(SOURCE, 3000)
    answer = one.request(message)
    assert answer.error is not None
    assert answer.error.startswith("Invalid request: ")
    assert complaint in answer.error
    assert len(one) == 0
    assert not len(answer.first)


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["subscribe", "unsubscribe", "ltp", "quote", "full"]), st.lists(st.integers(0, 9), max_size=6)
    ),
    max_size=20,
)


@given(REQUESTS)
def test_agrees_with_a_plain_model(requests: list[tuple[str, list[int]]]) -> None:
    one = Subscriptions(SOURCE, 6)
    model: dict[int, StreamMode] = {}
    for action, rows in requests:
        tokens = [TOKENS[row] for row in rows]
        if action == "subscribe":
            ask(one, action, tokens)
            for token in tokens:
                if token not in model and len(model) < 6:
                    model[token] = StreamMode.QUOTE
        elif action == "unsubscribe":
            ask(one, action, tokens)
            for token in tokens:
                model.pop(token, None)
        else:
            ask(one, "mode", [action, tokens])
            model |= {token: StreamMode[action.upper()] for token in tokens if token in model}
        assert modes(one) == model
        assert len(one) == len(model)
