"""config.yaml: the shipped file loads, and every mistake is named by its place, without its value."""

import re
from pathlib import Path

import pytest
import yaml

from kitelake.cli import shipped_config
from kitelake.config import Config, data_folder, load_config
from kitelake.errors import ConfigError

GOOD = """\
data: ticks
accounts:
  - {name: one, api_key: key-1, access_token: token-1}
subscriptions:
  - {name: a, mode: full, instruments: [NSE:INFY, 408065]}
"""


@pytest.fixture
def write(tmp_path: Path) -> "Writer":
    return Writer(tmp_path / "config.yaml")


class Writer:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, text: str) -> Path:
        self.path.write_text(text, encoding="utf-8")
        return self.path


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
        (("api_key", "apikey"), r"accounts\[0\]\.apikey: unknown key; allowed here: name, api_key, access_token"),
        (("api_key: key-1, ", ""), r"accounts\[0\]\.api_key: missing"),
        (("mode: full", "mode: fill"), r"subscriptions\[0\]\.mode: .*'ltp', 'quote' or 'full'"),
        (("name: one", "name: 'a b'"), r"accounts\[0\]\.name: .*pattern"),
        (
            ("instruments: [NSE:INFY, 408065]", "instruments: []"),
            r"subscriptions\[0\]: expected either `instruments` or",
        ),
        (("instruments: [NSE:INFY, 408065]", "select: {}"), r"subscriptions\[0\]\.select: .*at least one of exchange"),
        (
            ("instruments: [NSE:INFY, 408065]", "select: {exchnge: NSE}"),
            r"subscriptions\[0\]\.select\.exchnge: unknown key; allowed here: exchange, segment, types, .*",
        ),
        (
            ("token-1", "{env: KITELAKE_TEST_NOT_SET}"),
            r"accounts\[0\]\.access_token: the environment variable KITELAKE_TEST_NOT_SET is not set",
        ),
        (
            ("token-1", "{file: /nowhere/token}"),
            r"accounts\[0\]\.access_token: /nowhere/token cannot be read: No such file",
        ),
        (("token-1", "{vault: x}"), r"accounts\[0\]\.access_token: expected \{env: NAME\}, \{file: PATH\}"),
        (("token-1", "''"), r"accounts\[0\]\.access_token: it is empty"),
        (("token-1", "'a b'"), r"accounts\[0\]\.access_token: it holds spaces"),
        (
            ("accounts:\n  - {name: one, api_key: key-1, access_token: token-1}", "accounts: []"),
            r"accounts: expected at least one",
        ),
        (
            ("data: ticks", "data: ticks\njournal: {keep_hours: 0}"),
            r"journal\.keep_hours: .*greater than or equal to 1",
        ),
        (("data: ticks", "data: ticks\nsimulator: {port: 70000}"), r"simulator\.port: .*less than or equal to 65535"),
        (
            ("data: ticks", "data: ticks\ncapture: {conections: 1}"),
            r"capture\.conections: unknown key; allowed here: .*",
        ),
        (("data: ticks", "data: [ticks"), r"line \d+, column \d+: not YAML"),
        (("data: ticks", "data: ticks\n1: 2"), r"every key must be text; got 1"),
        (("name: one", "name: one, name: two"), r"line 3, column \d+: not YAML: the key 'name' stands twice"),
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


def test_secrets_come_from_the_environment_and_from_files(
    write: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text("from-a-file\n")
    token.chmod(0o600)
    monkeypatch.setenv("KITELAKE_TEST_KEY", "from-the-environment")
    text = GOOD.replace("key-1", "{env: KITELAKE_TEST_KEY}").replace("token-1", f"{{file: {token}}}")
    assert load_config(write(text)).secrets() == ["from-the-environment", "from-a-file"]
    token.chmod(0o644)
    with pytest.raises(ConfigError, match=r"can be read by other users \(mode 0644\): chmod 600"):
        load_config(write(text))


def test_a_config_never_shows_its_secrets(write: Writer) -> None:
    config = load_config(write(GOOD))
    for shown in (repr(config), str(config), config.model_dump_json(), repr(config.accounts)):
        assert "token-1" not in shown
        assert "key-1" not in shown


def test_the_environment_wins_over_the_file(write: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITELAKE_DATA", "/srv/ticks")
    monkeypatch.setenv("KITELAKE_JOURNAL__SEGMENT_SECONDS", "30")
    config = load_config(write(GOOD))
    assert config.data == Path("/srv/ticks")
    assert config.journal.segment_seconds == 30


def test_the_data_folder_is_known_without_the_secrets(write: Writer) -> None:
    path = write(GOOD.replace("token-1", "{env: KITELAKE_TEST_NOT_SET}"))
    assert data_folder(path) == path.parent / "ticks"
    with pytest.raises(ConfigError, match="data: expected the path of a folder"):
        data_folder(write("accounts: []"))
