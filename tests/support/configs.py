"""A small config.yaml that is good, and the writing of others."""

from pathlib import Path

GOOD = """\
data: ticks
accounts:
  - {name: one, api_key: key-1, access_token: token-1}
subscriptions:
  - {name: a, mode: full, instruments: [NSE:INFY, 408065]}
"""


class Writer:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, text: str) -> Path:
        self.path.write_text(text, encoding="utf-8")
        return self.path
