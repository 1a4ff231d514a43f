"""`make adapters`: the tests of each backtest framework's adapter, in an environment of the framework's own.

The environments are .venv-adapters/NAME, each made from a lock in requirements/adapters, again if that has changed. The
tests run one framework after the other; the last lines say what ran, and what was left out and why. Exits with 1 if a
test failed, or an environment could not be made.

    python -m tests.support.frameworks [NAME …]
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.environments import ROOT, environment

TESTS: Final = "tests/queries/adapters"
OLDEST_FOR_THE_NEWER: Final = (3, 12)


class Framework(NamedTuple):
    """`extra` is what brings it, and `package` what it is called there. `newer`: in an environment of Python 3.12 or
    newer, for which another version of it is locked."""

    name: str
    tests: str
    extra: str
    package: str
    newer: bool = False

    @property
    def lock(self) -> Path:
        return ROOT / "requirements" / "adapters" / f"{self.extra}.txt"


FRAMEWORKS: Final = (
    Framework("backtesting", "test_frames_backtesting.py", "backtesting", "backtesting"),
    Framework("vectorbt", "test_frames_vectorbt.py", "vectorbt", "vectorbt"),
    Framework("bt", "test_frames_bt.py", "bt", "bt"),
    Framework("backtrader", "test_backtrader.py", "backtrader", "backtrader"),
    Framework("nautilus", "test_catalog.py", "nautilus", "nautilus_trader"),
    Framework("nautilus-newer", "test_catalog.py", "nautilus", "nautilus_trader", newer=True),
    Framework("hftbacktest", "test_hftbacktest.py", "hftbacktest", "hftbacktest"),
)


def newer_python() -> str | None:
    """Python 3.12 or newer, on the path or of pyenv."""
    names = [f"python3.{minor}" for minor in (13, 12)]
    places = [found for found in map(shutil.which, names) if found]
    places += [
        str(python)
        for name in names
        for python in Path("~/.pyenv/versions").expanduser().glob(f"{name.removeprefix('python')}*/bin/python")
    ]
    code = f"import sys; sys.exit(sys.version_info < {OLDEST_FOR_THE_NEWER})"
    for place in places:
        if subprocess.run([place, "-c", code], capture_output=True, check=False).returncode == 0:
            return place
    return None


def environment_of(framework: Framework, python: str) -> Path:
    """The Python of the framework's environment. Raises CalledProcessError if that cannot be made."""
    return environment(ROOT / ".venv-adapters" / framework.name, framework.lock, python)


def run(framework: Framework, python: str | None) -> tuple[bool, str]:
    """Whether it is well, and what to say of it."""
    if framework.newer and sys.version_info >= OLDEST_FOR_THE_NEWER:
        return True, f"skipped: {framework.package} ran in Python 3.12 or newer already"
    if python is None:
        return True, "skipped: it needs Python 3.12 or newer, and there is none on the path or of pyenv"
    try:
        inside = environment_of(framework, python)
    except subprocess.CalledProcessError as error:
        return False, f"failed: its environment could not be made ({' '.join(map(str, error.cmd[:4]))} …)"
    package = framework.package
    says = f"'{package}', importlib.metadata.version('{package}'), 'on Python', platform.python_version()"
    code = f"import importlib.metadata, platform; print({says})"
    told = subprocess.run([inside, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    # Frameworks warn of each other, which says nothing of us.
    command: list[str | Path] = [
        inside,
        "-m",
        "pytest",
        "-q",
        "-W",
        "ignore",
        "-p",
        "no:cacheprovider",
        f"{TESTS}/{framework.tests}",
    ]
    print(f"\n{told}", flush=True)
    is_well = subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    return is_well, f"{'passed' if is_well else 'failed'}: {told}"


def main(names: list[str]) -> int:
    """Run those, or all."""
    newer = newer_python()
    found = {
        each.name: run(each, newer if each.newer else sys.executable)
        for each in FRAMEWORKS
        if not names or each.name in names
    }
    print()
    for name, (_, said) in found.items():
        print(f"{name:16}{said}")
    return int(not all(well for well, _ in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
