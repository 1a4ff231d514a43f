"""Which of several connections an instrument's ticks are shown from, where it was captured redundantly."""

from typing import Final

from queries.lake.state import LakeState, Relation

_ALL: Final = "SELECT *, NULL::TIMESTAMPTZ AS source_since FROM ticks_all"


def _ticks(_: LakeState) -> str:
    return _ALL


TICKS: Final = Relation("ticks", _ticks, frozenset({"ticks_all"}), _ALL)
