"""config.yaml: the shipped file loads, and every mistake is named by its place, without its value."""

import datetime as dt
import re
from pathlib import Path

import pytest
import yaml

from kitelake.cli.capture import shipped_config
from kitelake.config.config import Config, load_config
from kitelake.errors import ConfigError
from tests.support.configs import GOOD, Writer

REPLAY = 'ws: "ws://127.0.0.1:8765", api: "http://127.0.0.1:8766"'


def test_the_shipped_file_loads(write: Writer) -> None:
    config = load_config(write(shipped_config()))
    assert config.simulator is not None
    assert len(config.accounts) == 2


def test_the_shipped_file_shows_every_option(write: Writer) -> None:
    """Uncommented, its commented options are known, and no option of the models is missing from the text."""
    text = shipped_config()
    for name, field in Config.model_fields.items():
        assert re.search(rf"^#? ?{name}:", text, re.MULTILINE), name
        model = field.annotation
        for inner in getattr(model, "model_fields", {}):
            assert re.search(rf"^ *#? +{inner}:", text, re.MULTILINE), f"{name}.{inner}"


def test_the_commented_options_show_the_defaults(write: Writer) -> None:
    """Taking away the `# ` of every commented option changes nothing."""
    text = shipped_config()
    section = re.compile(r"^# (\w+:(?: .*)?|  \w+: .*)$", re.MULTILINE)
    first = text.index("# How the sockets are kept")
    uncommented = text[:first] + section.sub(r"\1", text[first:])
    assert uncommented != text
    path = write(text)
    expected = load_config(path)
    assert load_config(write(uncommented)) == expected
    assert set(yaml.safe_load(uncommented)) == set(Config.model_fields)


def test_good(write: Writer) -> None:
    path = write(GOOD)
    config = load_config(path)
    assert config.data == path.parent / "ticks"
    assert config.simulator is None
    assert config.kite.ws == "wss://ws.kite.trade"
    assert config.subscriptions[0].instruments == ("NSE:INFY", 408065)
    assert config.secrets() == ["key-1", "token-1"]


def test_ticks_come_from_one_source(write: Writer) -> None:
    today = dt.date(2026, 11, 29)
    for options, source, market_day in (
        ("", "kite", today),
        ("simulator: {}", "simulator", today),
        (f"kite: {{{REPLAY}}}", "kite", today),
        (f"kite: {{{REPLAY}, replay: 2026-11-24}}", "replay", dt.date(2026, 11, 24)),
        (f'kite: {{{REPLAY}, replay: "2026-11-24"}}', "replay", dt.date(2026, 11, 24)),
    ):
        config = load_config(write(GOOD + options))
        assert (config.source, config.market_day(today)) == (source, market_day)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such file.*kitelake init"):
        load_config(tmp_path / "config.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("data: ticks", "data: ticks\ndatta: 1"),
            r"datta: unknown key; allowed here: data, accounts, subscriptions, .*",
        ),
        (
            ("api_key", "apikey"),
            r"accounts\[0\]\.apikey: unknown key; allowed here: name, api_key, api_secret, access_token",
        ),
        (("api_key: key-1, ", ""), r"accounts\[0\]\.api_key: missing"),
        (("mode: full", "mode: fill"), r"subscriptions\[0\]\.mode: .*'ltp', 'quote' or 'full'"),
        (("name: one", "name: 'a b'"), r"accounts\[0\]\.name: expected letters, digits"),
        (
            ("instruments: [NSE:INFY, 408065]", "instruments: []"),
            r"subscriptions\[0\]: expected either `instruments`, `file`, `url` or `select`, one of them",
        ),
        (("instruments: [NSE:INFY, 408065]", "select: {}"), r"subscriptions\[0\]\.select: .*at least one of exchange"),
        (
            ("instruments: [NSE:INFY, 408065]", "select: {exchnge: NSE}"),
            r"subscriptions\[0\]\.select\.exchnge: unknown key; allowed here: exchange, segment, types, .*",
        ),
        (
            ("key-1", "{env: KITELAKE_TEST_NOT_SET}"),
            r"accounts\[0\]\.api_key: the environment variable KITELAKE_TEST_NOT_SET is not set",
        ),
        (
            ("key-1", "{file: /nowhere/token}"),
            r"accounts\[0\]\.api_key: /nowhere/token cannot be read: No such file",
        ),
        (("token-1", "{vault: x}"), r"accounts\[0\]\.access_token: expected \{env: NAME\}, \{file: PATH\}"),
        (("token-1", "''"), r"accounts\[0\]\.access_token: it is empty"),
        (("token-1", "'a b'"), r"accounts\[0\]\.access_token: it holds spaces"),
        (
            ("accounts:\n  - {name: one, api_key: key-1, access_token: token-1}", "accounts: []"),
            r"accounts: expected at least one",
        ),
        (
            ("data: ticks", "data: ticks\nretention: {days: 1}"),
            r"retention\.days: .*greater than or equal to 2",
        ),
        (("data: ticks", "data: ticks\nsimulator: {port: 70000}"), r"simulator\.port: .*less than or equal to 65535"),
        (
            ("data: ticks", "data: ticks\ncapture: {conections: 1}"),
            r"capture\.conections: unknown key; allowed here: .*",
        ),
        (("data: ticks", "data: [ticks"), r"line \d+, column \d+: not YAML"),
        (("data: ticks", "data: ticks\nlog: \x07"), r"line 2: not YAML: it holds a control character"),
        (("data: ticks", "data: ticks\n1: 2"), r"line 2, column 1: every key must be text: put it in quotes"),
        (("name: one", "name: one, name: two"), r"line 3, column \d+: the key 'name' stands twice"),
    ],
)
def test_each_mistake_is_named_by_its_place(write: Writer, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    path = write(GOOD.replace(*change))
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    assert "token-1" not in str(caught.value)
    assert "key-1" not in str(caught.value)


def test_a_byte_that_is_not_utf_8_is_named_by_its_line(write: Writer) -> None:
    path = write(GOOD)
    path.write_bytes(path.read_bytes() + b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=rf"line {GOOD.count(chr(10)) + 1}: cannot be read: it is not UTF-8 text"):
        load_config(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ('kite: {ws: "ws://"}', r"kite\.ws: expected wss://HOST\[:PORT\] or ws://HOST"),
        ('kite: {api: "http://"}', r"kite\.api: expected https://HOST\[:PORT\] or http://HOST"),
        ('kite: {api: "ws://host"}', r"kite\.api: expected https://HOST"),
        ('kite: {ws: "ws://[::1"}', r"kite\.ws: expected wss://HOST"),
        ('kite: {ws: "ws://ho\\nst"}', r"kite\.ws: expected wss://HOST"),
        ('kite: {ws: "ws://host:99999"}', r"kite\.ws: .* with a port from 1 to 65535"),
        ('kite: {api: "http://host:0"}', r"kite\.api: .* with a port from 1 to 65535"),
        ('kite: {ws: "wss://me:token-1@host"}', r"kite\.ws: .*without user, query and fragment"),
        ('kite: {ws: "wss://host?access_token=token-1"}', r"kite\.ws: .*without user, query and fragment"),
        ('kite: {api: "https://host/#token-1"}', r"kite\.api: .*without user, query and fragment"),
        ("kite: {replay: 2026-11-24}", r"kite\.replay: expected `ws` and `api` of the replay .*; ws is the broker's"),
        ('kite: {ws: "ws://[::1]:1", replay: 2026-11-24}', r"kite\.replay: .*; api is the broker's"),
        (
            'kite: {ws: "ws://127.0.0.1:1", api: "http://kite.zerodha.com", replay: 2026-11-24}',
            r"; api is the broker's",
        ),
        (f"kite: {{{REPLAY}, replay: 20261124}}", r"kite\.replay: expected a date: YYYY-MM-DD"),
        (
            f"kite: {{{REPLAY}, replay: 2026-11-24}}\nsimulator: {{}}",
            r"simulator and kite\.replay: expected one of them",
        ),
        ("spare: 2026-13-45", r"line 6, column 8: no date although it looks like one: put it in quotes"),
        ("spare: !!bool maybe", r"line 6, column 8: no bool although"),
        ("? [1, 2]\n: 3", r"line 6, column 3: every key must be text"),
        ("? {a: b}\n: 3", r"line 6, column 3: every key must be text"),
        ("log: {on: 3}", r"line 6, column 7: every key must be text: put it in quotes"),
        ("spare: " + "[" * 1000, r"nested too deeply"),
        ("simulator:", r"simulator: it is empty: delete the line to connect to Kite, or .*`simulator: \{\}`"),
        ("instruments: {fetch_at: 10:35}", r'instruments\.fetch_at: .*IST, in quotes and without a zone: "HH:MM"'),
        ('instruments: {fetch_at: "08:35+01:00"}', r"instruments\.fetch_at: .*without a zone"),
        ('instruments: {fetch_at: "24:00"}', r"instruments\.fetch_at: expected a time of day"),
        ('simulator: {record: ""}', r"simulator\.record: expected the path of a folder"),
        ("_env_prefix: OTHER_", r"_env_prefix: unknown key"),
        ("journal:", r"journal: expected keys with values; allowed here: flush_milliseconds, sync_milliseconds, "),
        ("capture: 5", r"capture: expected keys with values; allowed here: .*, connections, "),
        ("capture: {connections: three}", r"capture\.connections: expected a whole number"),
        ("metrics: {port: 70000}", r"metrics\.port: .*less than or equal to 65535"),
        ("log: {level: loud}", r"log\.level: must be 'debug', 'info', 'warning' or 'error'"),
    ],
)
def test_each_option_that_cannot_be_says_what_can(write: Writer, options: str, message: str) -> None:
    path = write(GOOD + options)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))
    for unwanted in ("token-1", "key-1", "Settings", "Section", "tuple", "Input"):
        assert unwanted not in str(caught.value)


def test_accounts_have_keys_of_their_own(write: Writer) -> None:
    twice = GOOD.replace("subscriptions:", "  - {name: two, api_key: key-1, access_token: token-2}\nsubscriptions:")
    with pytest.raises(ConfigError, match=r"accounts: .*the same: one, two$") as caught:
        load_config(write(twice))
    assert "key-1" not in str(caught.value)


@pytest.mark.parametrize("url", ["ws://127.0.0.1:8765", "wss://[::1]:443/stream", "ws://localhost"])
def test_addresses_that_can_be(write: Writer, url: str) -> None:
    assert load_config(write(GOOD + f'kite: {{ws: "{url}"}}')).kite.ws == url


@pytest.mark.parametrize(
    ("text", "got"), [("", "an empty file"), ("- a", "a list"), ("just words", "text"), ("7", "a number")]
)
def test_not_a_mapping(write: Writer, text: str, got: str) -> None:
    with pytest.raises(ConfigError, match=f"got {got}"):
        load_config(write(text))


def test_every_mistake_is_listed_at_once(write: Writer) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(GOOD.replace("data: ticks", "colour: red").replace("mode: full", "mode: fill")))
    assert str(caught.value).count("\n") == 2  # data missing, colour unknown, mode wrong


def test_names_stand_once(write: Writer) -> None:
    twice = GOOD.replace("subscriptions:", "  - {name: one, api_key: key-2, access_token: token-2}\nsubscriptions:")
    with pytest.raises(ConfigError, match="accounts: each name may stand once; twice here: one"):
        load_config(write(twice))
