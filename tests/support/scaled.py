"""Numbers of a test that are smaller in `make test` than in `make soak`; `tests/conftest.py` says how."""

import hypothesis


def scaled(quick: int, full: int) -> int:
    """`full` under the profile "soak", else `quick`."""
    return full if hypothesis.settings.get_current_profile_name() == "soak" else quick
