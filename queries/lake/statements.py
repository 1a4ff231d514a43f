"""SQL as text: how a SELECT's names are fixed, and what else a statement has to say before it runs.

DuckDB gives the parse tree of nothing but a SELECT, so of other statements the words are read, as DuckDB's own
tokenizer finds them.
"""

import atexit
import datetime as dt
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import duckdb

from queries.errors import ProtectedFolderError, QueryError

SAYS_LATER: Final = frozenset({"query", "query_table"})
"""What a query may name tables by that are not in its own text."""
PLAINLY: Final = SAYS_LATER | {"main", "memory"}
"""What it may reach plain names by, whatever its head says."""
LISTS: Final = re.compile(
    r"\b(show|desc|describe|summarize|information_schema|(duckdb|pg|pragma|sqlite)_)", re.IGNORECASE
)
"""What tells of the names themselves."""
BEGINS: Final = re.compile(r"\s*(begin|start)\b", re.IGNORECASE)
"""What begins a transaction, which sees of the catalog what is there then."""
ENDS: Final = re.compile(r"\s*(commit|end|rollback|abort)\b[\w\s;]*$", re.IGNORECASE)
"""What ends one, which may have failed, so that its connection takes nothing else."""
_EXPLAIN: Final = re.compile(
    r"\s*explain\b(\s*analy[sz]e\b)?(\s*\(\s*(analy[sz]e|format)\b[\w\s,]*\))?", re.IGNORECASE | re.ASCII
)
_PREPARE: Final = re.compile(r"\s*prepare\b.*?\bas\b", re.IGNORECASE | re.DOTALL)
_ATTACH: Final = re.compile(
    r"\s*attach\b(\s*or\s+replace\b)?(\s*database\b)?(\s*if\s+not\s+exists\b)?", re.IGNORECASE | re.ASCII
)
_SCHEME: Final = re.compile(r"(file|duckdb):(//localhost(?=/)|//)?", re.IGNORECASE)
_SEVERAL_FILES: Final = re.compile(
    r"\b(partition_by|per_thread_output|file_size_bytes|row_groups_per_file)\b", re.IGNORECASE
)
_SPECIAL: Final = re.compile(r"[=*?\[]")


def fixed_text(query: str, ctes: Sequence[str]) -> str:
    """A SELECT whose plain names are these, whatever they lead to elsewhere. One line is put before it."""
    query = _without_end(query)
    if not ctes:
        return query
    head = "WITH " + ", ".join(ctes)
    if re.match(r"\s*(select|from)\b", query, re.IGNORECASE):
        return f"{head}\n{query}"
    # It may have a WITH of its own, or be one of the statements that take none, such as SUMMARIZE.
    return f"{head} SELECT * FROM (\n{_without_semicolon(query)}\n)"


def moved_up(message: str, moved: bool) -> str:
    """DuckDB's message, with the line as the user counts."""
    if not moved:
        return message
    return re.sub(r"^LINE (\d+):", lambda found: f"LINE {int(found[1]) - 1}:", message, flags=re.MULTILINE)


def valid(query: str) -> str:
    """Raises QueryError for what is no text, or holds what is no character, as a shell may pass it on."""
    if not isinstance(query, str):
        raise QueryError(f"query: got {type(query).__name__}, expected SQL text")
    try:
        query.encode()
    except UnicodeEncodeError as error:
        at = error.start
        raise QueryError(f"the query is not valid text: got {query[at]!a} at position {at}, expected UTF-8") from None
    return query


def explained(query: str) -> tuple[str, str]:
    """What makes an EXPLAIN of it, and the statement that is explained. The former is empty for other statements."""
    plain = _without_comments(query)
    found = _EXPLAIN.match(plain)
    return (plain[: found.end()], plain[found.end() :]) if found else ("", query)


def refuse_writing_into(
    root: Path,
    con: duckdb.DuckDBPyConnection,
    statement: duckdb.Statement,
    params: Sequence[object] | Mapping[str, object] | None,
) -> None:
    """Raise ProtectedFolderError for a COPY, EXPORT or ATTACH to a path in this folder, however it is written.

    `con` is what will run it: a path may be an expression over the connection's variables. What cannot be known
    before it runs, such as a path that a prepared statement is to be given, is refused too.
    """
    text = _without_comments(statement.query)
    prepared = False
    if statement.type == duckdb.StatementType.EXPLAIN:
        text = explained(text)[1]
    elif statement.type == duckdb.StatementType.PREPARE and (head := _PREPARE.match(text)):
        text, prepared = text[head.end() :], True
    verb = re.match(r"\s*(\w*)", text)
    kind = verb[1].upper() if verb else ""
    found = _target(kind, text)
    if found is None:
        return
    before, target = found
    path = _value_of(target, before, con, () if prepared or params is None else params)
    if path is None:
        raise ProtectedFolderError(
            f"{kind} {target}: the path cannot be known before the statement runs, and may lie in the data folder "
            f"{root}; write it as text, or pass it as a parameter of this very statement"
        )
    if _is_inside(path, root) or (_SEVERAL_FILES.search(text) and _is_inside(str(root), Path(_local(path)))):
        raise ProtectedFolderError(
            f"{kind} {path!r}: got a path in the data folder {root}, in which only the service may write; "
            "choose one outside of it"
        )


def _tokens(query: str) -> list[tuple[str, object]]:
    """Each token with what follows until the next, and its kind."""
    data = query.encode()  # the offsets are those of bytes
    found = duckdb.tokenize(query)
    ends = [*(at for at, _ in found), len(data)][1:]
    return [(data[at:end].decode(), kind) for (at, kind), end in zip(found, ends, strict=True)]


def _without_comments(query: str) -> str:
    """The same with spaces instead of comments; lines stay lines."""
    found = _tokens(query)
    start = query[: len(query) - sum(len(text) for text, _ in found)]
    is_comment = duckdb.token_type.comment
    return start + "".join(re.sub(r"[^\n]", " ", text) if kind == is_comment else text for text, kind in found)


def _without_end(query: str) -> str:
    """The same without its `;` and the comments behind it, which DuckDB does not take in a text for a relation."""
    if ";" not in query:
        return query
    found = _tokens(query)
    start = query[: len(query) - sum(len(text) for text, _ in found)]
    kept = len(found)
    while kept and (found[kept - 1][1] == duckdb.token_type.comment or found[kept - 1][0].strip() == ";"):
        kept -= 1
    is_ended = any(text.strip() == ";" for text, _ in found[kept:])
    return start + "".join(text for text, _ in found[:kept]) if is_ended else query


def _without_semicolon(query: str) -> str:
    return _without_comments(query).rstrip("; \t\r\n")


def _target(kind: str, text: str) -> tuple[str, str] | None:
    """What comes before the SQL of the path that a statement writes to, and that SQL; None if it writes to none."""
    if kind == "EXPORT":
        texts = (token.strip() for token, what in _tokens(text) if what == duckdb.token_type.string_const)
        return "", next(texts, text)
    if kind == "ATTACH" and (found := _ATTACH.match(text)):
        return "", _until(text[found.end() :], "as").strip().rstrip("; \t\r\n")
    if kind == "COPY" and len(before := _until(text, "to")) < len(text):
        return before, _first(text[len(before) :].lstrip()[2:])
    return None


def _until(text: str, word: str) -> str:
    """The text before a word that stands outside of all parentheses; all of it if there is none."""
    depth, passed = 0, ""
    for token, kind in _tokens(text):
        stripped = token.strip()
        depth += (stripped == "(") - (stripped == ")")
        if depth == 0 and kind != duckdb.token_type.string_const and stripped.lower() == word:
            return text[: len(text) - len(text.lstrip())] + passed
        passed += token
    return text


def _first(text: str) -> str:
    """The first operand: a text, a name, a parameter, or what is in parentheses."""
    depth, passed = 0, ""
    for token, _ in _tokens(text):
        stripped = token.strip()
        depth += (stripped == "(") - (stripped == ")")
        passed += token
        if depth == 0 and stripped != "$":
            break
    return passed.strip().rstrip(";")


def _value_of(
    target: str, before: str, con: duckdb.DuckDBPyConnection, params: Sequence[object] | Mapping[str, object]
) -> str | None:
    """What the path's SQL comes to; None if that cannot be said."""
    if re.fullmatch(r'[\w.]+|"[^"]*"', target):
        return target.strip('"')
    values: object
    if isinstance(params, Mapping):
        values = {name: value for name, value in params.items() if re.search(rf"\${name}\b", target)}
    elif found := re.fullmatch(r"\$(\d+)", target):
        target, values = "?", list(params)[int(found[1]) - 1 :][:1]
    else:
        skipped, asked = (sum(token.strip() == "?" for token, _ in _tokens(text)) for text in (before, target))
        values = list(params)[skipped : skipped + asked]
    # Options in parentheses may follow the path of an ATTACH.
    for text in (target, re.sub(r"\([^()]*\)$", "", target)):
        try:
            ((value,),) = con.execute(f"SELECT {text}", values or None).fetchall()
        except (duckdb.Error, ValueError):
            continue
        return None if value is None else str(value)
    return None


def _local(path: str) -> str:
    while found := _SCHEME.match(path):
        path = path[found.end() :]
    return os.path.expanduser(path)  # noqa: PTH111 - as DuckDB does


def _is_inside(path: str, root: Path) -> bool:
    """Whether it leads into the folder: through links, `..` or another case, where the file system knows none."""
    local = _local(path)
    if not local or local.startswith(":"):  # a database in memory
        return False
    for real in {os.path.realpath(local), os.path.realpath(os.path.normpath(local))}:
        for above in (Path(real), *Path(real).parents):
            try:
                if above.samefile(root):
                    return True
            except OSError:
                continue  # it is not there
    return False


def quoted(name: str) -> str:
    """A name as SQL has it."""
    return '"' + name.replace('"', '""') + '"'


def among(days: Iterable[dt.date]) -> str:
    """The SQL condition that `date` is one of these."""
    several = ", ".join(f"DATE '{day}'" for day in days)
    return f"date IN ({several or 'NULL'})"


def literal(text: str) -> str:
    """Text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


def is_select(con: duckdb.DuckDBPyConnection, text: str) -> bool:
    """Whether it is one SELECT and nothing else."""
    try:
        return [statement.type for statement in con.extract_statements(text)] == [duckdb.StatementType.SELECT]
    except duckdb.Error:
        return False


@functools.cache
def plain_root(root: Path) -> Path:
    """A path to the same folder that DuckDB takes literally.

    It takes `name=value` anywhere in a path for a partition, and `*`, `?` and `[` for patterns, and knows no escape.
    Such a folder is reached by a link in the system's folder for temporary files, until the process ends.
    """
    if _SPECIAL.search(str(root)) is None:
        return root
    folder = tempfile.mkdtemp(prefix="kitelake-")
    atexit.register(_remove, folder, os.getpid())
    link = Path(folder) / "lake"
    os.symlink(root, link, target_is_directory=True)  # noqa: PTH211 - the same thing, and says what links to what
    return link


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:  # and not where one ends that was forked of it
        shutil.rmtree(folder)
