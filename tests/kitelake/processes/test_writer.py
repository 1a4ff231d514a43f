"""What the writer process does without. What it does is in tests/storage/commit and tests/system."""

import pytest

from kitelake.processes.writer import NoPandas


def test_it_finds_no_pandas_and_leaves_the_rest_to_others() -> None:
    finder = NoPandas()
    with pytest.raises(ModuleNotFoundError, match="without pandas"):
        finder.find_spec("pandas", None)
    finder.find_spec("pandas_like", None)
    finder.find_spec("json", None)
