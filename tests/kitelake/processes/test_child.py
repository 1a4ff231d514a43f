"""How a child of the service begins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kitelake.errors import StartError
from kitelake.processes.child import Child
from tests.support.simulation import ROOT

MODULE = """
import json, sys
import structlog, pyarrow
from kitelake.processes import settings_of
pyarrow.array([1])
print(json.dumps([sys.argv[1:], __name__, sorted({"pandas", "rich", "twisted"} & set(sys.modules))]))
"""


@pytest.mark.slow
def test_without_what_it_does_not_need(tmp_path: Path) -> None:
    """All of them are installed here; together they take as long to load as much else."""
    (tmp_path / "told.py").write_text(MODULE)
    command = [sys.executable, "-m", "kitelake.processes.child", "told", "more"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == '[["more"], "__main__", []]\n'


async def test_one_that_the_system_does_not_start_is_said_to_be_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StartError, match=r"the process told could not be started: .*No such file"):
        await Child.start("told", {}, hide=())
