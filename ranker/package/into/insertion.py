"""Lines in a document block: inserted so that every other byte stays, and removed again."""

from ranker.artifacts.installation import Insertion
from ranker.contract.fields import TOKEN_FIELDS
from ranker.contract.spec import TokenSpec
from ranker.contract.storage import TensorType
from ranker.package.into.schema import Document

__all__ = ["insert", "remove", "token_fields"]

UNIT = "    "
_ENDS = ("\n", "\r\n")


def token_fields(
    spec: TokenSpec, tokens: TensorType, text_fields: tuple[str, ...], names: tuple[str, str]
) -> str:
    """Return the two fields as they stand in a document block, not indented.

    Args:
        spec: the contract.
        tokens: the type of the field with the ids.
        text_fields: what the ids are of, for the comment.
        names: the names of the fields with the ids and with the fingerprint.
    """
    lines = [
        f"# `ranker package`: token ids of {', '.join(text_fields)}; contract {spec.fingerprint}."
    ]
    for field, name in zip(TOKEN_FIELDS, names, strict=True):
        lines += [
            f"field {name} type {field.type_name(tokens)} {{",
            f"{UNIT}indexing: attribute",
            *([f"{UNIT}attribute: paged"] if field.kind == "tokens" else []),
            "}",
        ]
    return "".join(f"{line}\n" for line in lines)


def insert(text: str, file: str, document: Document, lines: str) -> tuple[str, Insertion]:
    """Insert lines at the end of a document block, indented and ended as the lines around them.

    Args:
        text: content of the schema file.
        file: its path in the application.
        document: the block in it.
        lines: what to insert, indented by four spaces a level.

    Returns:
        The new content, and what was inserted.
    """
    close = document.item.end - 1
    start = text.rfind("\n", 0, close) + 1
    outer = _indent(text, document.item.start)
    inner = _indent_of_items(text, document) or outer + _unit(outer)
    step = inner.removeprefix(outer) if inner.startswith(outer) else _unit(outer)
    end = "\r\n" if text[start - 2 : start] == "\r\n" else "\n"
    block = "".join(
        _reindented(line, inner, step or _unit(outer)) + end for line in lines.splitlines()
    )
    if text[start:close].strip(" \t\ufeff"):  # the brace is not the first in its line
        block, at = f"{end}{block}{_indent(text, close)}", close
    else:
        at = start
    return text[:at] + block + text[at:], Insertion(file, block)


def remove(text: str, insertion: Insertion) -> str | None:
    """Return the text without the inserted one, or None if that does not occur exactly once.

    Other line ends are accepted: git may have changed all of them.
    """
    plain = insertion.text.replace("\r\n", "\n")
    for end in _ENDS:
        block = plain.replace("\n", end)
        if text.count(block) == 1:
            return text.replace(block, "")
    return None


def _reindented(line: str, inner: str, step: str) -> str:
    level = (len(line) - len(line.lstrip())) // len(UNIT)
    return inner + step * level + line.lstrip()


def _indent_of_items(text: str, document: Document) -> str | None:
    """Return the indentation of the last item that begins its line."""
    for item in reversed(document.item.items):
        start = text.rfind("\n", 0, item.start) + 1
        if not text[start : item.start].strip(" \t") and start > document.item.start:
            return text[start : item.start]
    return None


def _indent(text: str, at: int) -> str:
    """Return the spaces and tabs at the beginning of a line.

    Args:
        text: the file.
        at: an offset in the line.
    """
    start = text.rfind("\n", 0, at) + 1
    end = start
    while text[end : end + 1] in (" ", "\t"):
        end += 1
    return text[start:end]


def _unit(outer: str) -> str:
    return "\t" if "\t" in outer else UNIT
