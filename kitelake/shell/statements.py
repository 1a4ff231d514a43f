"""Where statements end in what was typed: at each `;` outside of texts, names and comments, as DuckDB sees them."""

from typing import Final

import duckdb

COMMAND: Final = "."
"""What a line begins with that is for the shell and not for DuckDB."""


def split(text: str) -> tuple[list[str], str]:
    """The statements that have ended, each with its `;`, and what comes behind the last: empty if nothing does.

    What has nothing but comments is no statement, unless the comment has not ended.
    """
    data = text.encode(errors="replace")  # the tokenizer's places are those of bytes; and not all that comes is text
    found = duckdb.tokenize(data.decode())
    ends = [*(at for at, _ in found), len(data)][1:]
    statements: list[str] = []
    begun = 0
    says_something = False
    for (at, kind), end in zip(found, ends, strict=True):
        token = data[at:end].decode().strip()
        if kind == duckdb.token_type.comment:
            says_something |= token.startswith("/*") and not token.endswith("*/")
        elif kind == duckdb.token_type.operator and token.startswith(";"):
            if says_something:
                statements.append(data[begun : at + 1].decode().strip())
            begun, says_something = at + 1, False
        else:
            says_something = True
    return statements, data[begun:].decode().lstrip() if says_something else ""


def is_complete(text: str) -> bool:
    """Whether Enter runs it: a command, or statements of which the last has ended."""
    return text.startswith(COMMAND) or not split(text)[1]


def text_begun(statement: str) -> str | None:
    """What a text has so far that begins in the statement and has not ended; None if there is none."""
    found = duckdb.tokenize(statement)
    if not found or found[-1][1] != duckdb.token_type.string_const:
        return None
    token = statement.encode()[found[-1][0] :].decode()
    return token[1:] if token.startswith("'") and token.count("'") % 2 else None
