"""TREC's SGML as it occurs: blocks of a tag with elements inside, closed or not."""

import html
import re
from collections.abc import Iterator
from typing import NamedTuple

from ranker.dataset.fields import identifier
from ranker.dataset.formats.lines import Lines
from ranker.dataset.problems import BadRow, Place, Problems
from ranker.records import Document, Query

__all__ = ["Block", "blocks", "document_of_block", "query_of_block"]

_TITLES = ("title", "headline", "head", "hl", "ttl", "ti")
_TEXTS = ("text", "leadpara", "lp", "body", "abstract")
_ANY_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_NUMBER = re.compile(r"""<num>\s*(?:Number\s*:)?\s*([^\s<]+)""", re.IGNORECASE)
_NUMBER_ATTRIBUTE = re.compile(r"""\b(?:number|id|num)\s*=\s*["']([^"']*)["']""", re.IGNORECASE)


class Block(NamedTuple):
    """The text between an opening tag and its closing tag."""

    attributes: str
    body: str


def blocks(lines: Lines, tags: str, problems: Problems) -> Iterator[tuple[Place, Block]]:
    """Yield the blocks of a file, each with the place of its opening tag, one at a time.

    Args:
        lines: the file.
        tags: the tag's names, as alternatives of a regular expression.
        problems: notes the blocks that are not closed, or are closed without being opened.
    """
    tag = re.compile(rf"<(/?)(?:{tags})(\s[^>]*)?>", re.IGNORECASE)
    opened: tuple[Place, str] | None = None
    body: list[str] = []
    for line in lines:
        end = 0
        for match in tag.finditer(line):
            body.append(line[end : match.start()])
            end = match.end()
            closes = bool(match[1])
            if closes == (opened is None):
                _misplaced(opened, lines.place, match[0], problems)
            elif closes and opened and lines.damaged < opened[0].number:
                yield opened[0], Block(opened[1], "".join(body))
            opened = None if closes else (lines.place, match[2] or "")
            body = []
        if opened:
            body.append(line[end:])
    if opened:
        _misplaced(opened, lines.place, "the end of the file", problems)


def query_of_block(block: Block) -> Query:
    """Return the query of a topic: its number, and its title (or `query`, or text without tags).

    Raises:
        BadRow: there is no number, or no text.
    """
    number = _NUMBER_ATTRIBUTE.search(block.attributes) or _NUMBER.search(block.body)
    if number is None:
        raise BadRow("missing key", "the topic has no number (<num> or number=...)")
    title = re.search(r"<(?:title|query)\s*>([^<]*)", block.body, re.IGNORECASE)
    if title is None and _ANY_TAG.search(block.body):
        raise BadRow("missing key", f"topic {number[1]} has neither <title> nor <query>")
    text = _plain(title[1] if title else block.body)
    text = re.sub(r"^Topic\s*:\s*", "", text)
    if not text:
        raise BadRow("empty query", f"topic {number[1]} is empty")
    return Query(identifier(number[1], "topic number"), text)


def document_of_block(block: Block) -> Document:
    """Return the document of a `<DOC>`: DOCNO, a title element, and its text elements.

    Without a text element, everything else is the text.  Tags become spaces, entities their
    characters, and each run of white space becomes one space.

    Raises:
        BadRow: there is no DOCNO.
    """
    numbers, body = _cut(block.body, ("docno",))
    if not numbers:
        raise BadRow("missing key", "the document has no <DOCNO>")
    for name in _TITLES:
        titles, body = _cut(body, (name,))
        if titles:
            break
    texts, _ = _cut(body, _TEXTS)
    return Document(
        doc_id=identifier(numbers[0].strip(), "DOCNO"),
        title=_plain(" ".join(titles)),
        text=_plain(" ".join(texts) if texts else body),
    )


def _cut(body: str, names: tuple[str, ...]) -> tuple[list[str], str]:
    """Return the contents of the elements, and the body without them."""
    alternatives = "|".join(names)
    element = re.compile(rf"<({alternatives})(?:\s[^>]*)?>(.*?)</\1\s*>", re.I | re.S)
    return [match[2] for match in element.finditer(body)], element.sub(" ", body)


def _plain(markup: str) -> str:
    return " ".join(html.unescape(_ANY_TAG.sub(" ", markup)).split())


def _misplaced(
    opened: tuple[Place, str] | None, place: Place, tag: str, problems: Problems
) -> None:
    if opened is None:
        problems.add(place, BadRow("broken markup", f"{tag} was never opened"))
    else:
        reason = f"not closed before {tag} in line {place.number}"
        problems.add(opened[0], BadRow("broken markup", reason))
