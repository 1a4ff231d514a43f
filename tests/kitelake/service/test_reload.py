"""What a service says of a config.yaml that is read again."""

from pathlib import Path
from unittest.mock import Mock, patch

from kitelake.config import load_config
from kitelake.processes import Source
from kitelake.service import Service
from storage.layout import DataLayout

GOOD = """\
data: ticks
accounts: [{name: one, api_key: key, access_token: token}]
subscriptions: [{name: a, instruments: [NSE:INFY]}]
"""


async def test_systemd_is_told_that_a_file_is_not_usable(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(GOOD)
    source = Source("ws://127.0.0.1:1", "http://127.0.0.1:1")
    service = Service(load_config(path), source, DataLayout(tmp_path / "ticks"), config_path=path)
    service._cycle, service._problems = Mock(), Mock()
    path.write_text("data: [")
    with patch("kitelake.telemetry.systemd.notify") as notify:
        await service.reload()
    said = "config.yaml is not usable: capturing what it said before"
    assert notify.call_args.kwargs == {"READY": 1, "STATUS": said}
