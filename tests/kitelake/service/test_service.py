"""What a service does when it cannot start."""

import asyncio
import socket
from pathlib import Path

import pytest

from kitelake.config import Config
from kitelake.errors import StartError
from kitelake.processes import Source
from kitelake.service import Service
from storage.layout import DataLayout


async def test_with_the_port_of_its_metrics_in_use_nothing_is_begun(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = Config.model_validate(
            {
                "data": tmp_path,
                "accounts": [{"name": "one", "api_key": "key", "access_token": "token"}],
                "subscriptions": [{"name": "a", "instruments": ["NSE:INFY"]}],
                "metrics": {"port": taken.getsockname()[1]},
            }
        )
        service = Service(config, Source("ws://127.0.0.1:1", "http://127.0.0.1:1"), DataLayout(tmp_path))
        with pytest.raises(StartError, match="Address already in use"):
            await service.run(asyncio.Event())
    assert list(tmp_path.iterdir()) == []
