"""What Tab offers at a place in a statement."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from typing import Final

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from kitelake.errors import KitelakeError
from kitelake.shell.statements import COMMAND, split, text_begun
from kitelake.shell.vocabulary import Names, Vocabulary

MOST: Final = 200
KEYWORDS: Final = (
    "all and any_value anti arg_max arg_min as asc asof avg between by case cast count create date describe desc "
    "distinct else end except exclude exists explain false filter first from group having in inner interval intersect "
    "is join last left like limit macro max median min not null offset on or order over partition pivot qualify "
    "quantile_cont replace rows sample select semi sum summarize table temp then time_bucket true union unnest using "
    "values view when where window with"
)
_BEFORE_RELATION: Final = re.compile(
    r"\b(?:from|join|describe|summarize|into|table|update)\s+(?:[\w\s.]*,\s*)?$", re.IGNORECASE
)
_QUALIFIED: Final = re.compile(r"(\w+)\.\s*$")
_WORD: Final = re.compile(r"\w*$")


@dataclass(frozen=True)
class Offer:
    """What would stand instead of the last `length` characters, and what it is."""

    text: str
    length: int
    what: str = ""


def offers(before: str, after: str, names: Names, commands: Iterable[str] = ()) -> list[Offer]:
    """What may come at the place between these two texts, the likeliest first."""
    if before.startswith(COMMAND):
        return _of_command(before, names, commands)
    statement = split(before)[1]
    if (symbol := text_begun(statement)) is not None:
        return [Offer(found, len(symbol), "symbol") for found in symbols_like(names.symbols, symbol)]
    found_word = _WORD.search(statement)
    assert found_word is not None
    word, head = found_word[0], statement[: found_word.start()]
    return [Offer(text, len(word), what) for text, what in _like(word, _candidates(head, after, names))][:MOST]


def symbols_like(symbols: Sequence[str], begun: str) -> list[str]:
    """The symbols that begin so, in any case; without an exchange it may be any, NSE first."""
    exchanges = () if ":" in begun else {symbol.partition(":")[0] for symbol in symbols}
    heads = ["", *(f"{name}:" for name in sorted(exchanges, key=lambda name: (name != "NSE", name)))]
    found = chain.from_iterable(
        _beginning(symbols, head + as_written) for head in heads for as_written in (begun, begun.upper())
    )
    return list(islice(dict.fromkeys(found), MOST))


def _beginning(symbols: Sequence[str], asked: str) -> Iterator[str]:
    first = bisect_left(symbols, asked)
    return takewhile(lambda symbol: symbol.startswith(asked), islice(symbols, first, first + MOST))


def _of_command(before: str, names: Names, commands: Iterable[str]) -> list[Offer]:
    command, space, rest = before.partition(" ")
    if not space:
        return [Offer(name, len(command), "command") for name in commands if name.startswith(command)]
    if command == ".schema":
        return [Offer(name, len(rest), "table") for name in names.relations if name.startswith(rest)]
    return []


def _candidates(head: str, after: str, names: Names) -> Iterator[tuple[str, str]]:
    """What could stand behind the head, whatever it begins with."""
    whole = f"{head} {after}"
    if (owner := _QUALIFIED.search(head)) is not None:
        yield from names.relations.get(_relation_called(owner[1], whole, names), {}).items()
        return
    if _BEFORE_RELATION.search(head):
        yield from ((name, "table") for name in names.relations)
        yield from ((f"{name}(", overloads[-1]) for name, overloads in names.macros.items())
        return
    if (macro := macro_called(head)) in names.macros:
        yield from ((f"{name} := ", f"of {macro}") for name in names.parameters(macro))
    named = [name for name in names.relations if re.search(rf"\b{re.escape(name)}\b", whole, re.IGNORECASE)]
    for name in named or names.relations:
        yield from ((column, f"{kind.lower()}, {name}") for column, kind in names.relations[name].items())
    yield from ((name, "table") for name in names.relations)
    yield from ((f"{name}(", overloads[-1]) for name, overloads in names.macros.items())
    yield from ((word, "") for word in KEYWORDS.split())


def _relation_called(alias: str, statement: str, names: Names) -> str:
    """The relation that an alias in this statement stands for; else the name itself."""
    for name in names.relations:
        if re.search(rf"\b{re.escape(name)}\s+(?:as\s+)?{re.escape(alias)}\b", statement, re.IGNORECASE):
            return name
    return alias.lower()


def macro_called(head: str) -> str:
    """The name before the parenthesis that is open at the end of the head, outside of texts."""
    plain = re.sub(r"'(?:[^']|'')*'", "''", head)
    depth = 0
    for at in range(len(plain) - 1, -1, -1):
        depth += (plain[at] == ")") - (plain[at] == "(")
        if depth < 0:
            found = re.search(r"(\w+)\s*$", plain[:at])
            return "" if found is None else found[1].lower()
    return ""


def _like(word: str, candidates: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Those that begin with the word, each once; keywords in the case of the word."""
    seen: set[str] = set()
    for text, what in candidates:
        if text.lower().startswith(word.lower()) and text not in seen:
            seen.add(text)
            yield (text.upper() if not what and word[:1].isupper() else text), what


class SqlCompleter(Completer):
    """The same for the prompt."""

    def __init__(self, vocabulary: Vocabulary, commands: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._commands = commands

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        before = document.text_before_cursor
        try:
            in_text = text_begun(split(before)[1]) is not None
            names = self._vocabulary.names(symbols=in_text)
        except KitelakeError:
            return  # the query that names it will say why
        for offer in offers(before, document.text_after_cursor, names, self._commands):
            yield Completion(offer.text, -offer.length, display_meta=offer.what)
