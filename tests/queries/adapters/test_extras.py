"""Libraries that are not there are named, with the extra that has them."""

import subprocess
import sys

import pytest

from queries.adapters.extras import needed
from queries.errors import MissingLibraryError

FRAMEWORKS = {"backtesting", "vectorbt", "bt", "backtrader", "nautilus_trader", "hftbacktest", "numba", "pandas"}


def test_what_is_missing_is_said_with_its_extra() -> None:
    with pytest.raises(MissingLibraryError, match=r"no_such_library is not installed .* 'kitelake\[backtrader\]'"):
        needed("no_such_library.part", "backtrader")


@pytest.mark.slow
def test_no_framework_is_loaded_before_it_is_needed() -> None:
    code = f"import sys, kitelake, kitelake.adapters; print(sorted({FRAMEWORKS} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
