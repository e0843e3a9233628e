r"""Vespa's schema language, as far as its blocks go: where each begins and ends.

After the token rules of Vespa's own grammar (`config-model/src/main/javacc/SchemaParser.jj` and
`indexinglanguage/src/main/javacc/IndexingParser.jj`), which have four kinds of text in which a
brace, a quote or a `#` means different things:

- statements and blocks, with comments and with strings that know no escapes;
- indexing statements, with comments and with strings in which `\"` is a quote;
- ranking expressions and tensor values, where only braces count;
- feature lists, which end at the first `}`, and bindings of an onnx-model, at the line's end.

Nothing is changed or checked here; positions are offsets into the text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ranker.errors import ArtifactError

__all__ = ["Item", "parse"]

_FEATURES = {"match-features", "summary-features", "rank-features", "select-elements-by"}
_RAW = {"expression", "value"}
_BINDINGS = {"input", "output"}
_INDEXING = "indexing"

_SPACES = re.compile(r"(?:[ \t\r\f\ufeff]|#[^\r\n]*)*")
_EMPTY_LINES = re.compile(r"(?:[ \t\r\f\ufeff\n]|#[^\r\n]*)*")
_BRACE = re.compile("[{}]")
_BRACE_OR_END = re.compile("[{}\n]")
_END_OF_FEATURES = re.compile("}")
_END_OF_VALUE = re.compile("[}\n]")
_LINE_END = re.compile("\n")
_PLAIN = re.compile(r"[\w./-]+|.", re.DOTALL)
_ENDS_WORD = frozenset(" \t\r\f\n{}:,\"'#")
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True)
class Item:
    """A statement or a block.

    Attributes:
        words: the words before its `:` or `{`; a comma is a word.
        start: position of the first word.
        end: position after its last character.
        inside: the words of its value, or of a block that is not made of statements.
        brace: position of a block's `{`, None for a statement.
        items: the items in the block.
    """

    words: tuple[str, ...]
    start: int
    end: int
    inside: tuple[str, ...] = ()
    brace: int | None = None
    items: tuple["Item", ...] = ()

    @property
    def kind(self) -> str:
        """The first word."""
        return self.words[0] if self.words else ""

    @property
    def name(self) -> str:
        """The second word, which is the name of a block."""
        return self.words[1] if len(self.words) > 1 else ""

    @property
    def inherits(self) -> tuple[str, ...]:
        """The names after `inherits`."""
        if "inherits" not in self.words[2:]:
            return ()
        after = self.words[self.words.index("inherits", 2) + 1 :]
        return tuple(word for word in after if word != ",")

    def all_words(self) -> Iterator[str]:
        """Yield every word in it, without comments and strings."""
        yield from self.words
        yield from self.inside
        for item in self.items:
            yield from item.all_words()


def parse(text: str, *, where: str) -> tuple[Item, ...]:
    """Parse a schema or rank-profile file.

    Raises:
        ArtifactError: a block, bracket or string is not closed, or one is closed that is not open.
    """
    scanner = _Scanner(text, where)
    items = scanner.items()
    if scanner.next:
        raise scanner.error(scanner.position, "a } without an opening brace")
    return items


class _Scanner:
    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.position = text, where, 0

    @property
    def next(self) -> str:
        """The next character; nothing at the end."""
        return self.text[self.position : self.position + 1]

    def error(self, position: int, what: str) -> ArtifactError:
        line = self.text.count("\n", 0, position) + 1
        return ArtifactError(f"{self.where}, line {line}: {what}")

    def items(self) -> tuple[Item, ...]:
        """Read items up to the `}` of their block, or to the end."""
        items = []
        self._skip(lines=True)
        while self.next and self.next != "}":
            items.append(self._item())
            self._skip(lines=True)
        return tuple(items)

    def _item(self) -> Item:
        start, words, end = self.position, list[str](), self.position
        while True:
            self._skip(lines=False)
            if self.next == "{":
                return self._block(start, tuple(words))
            if self.next == ":" and words:
                return self._value(start, tuple(words))
            if self.next == "\n" and self._continues(words):
                continue
            if self.next in ("", "\n", "}"):
                return Item(tuple(words), start, end)
            words.append(self._word())
            end = self.position

    def _continues(self, words: list[str]) -> bool:
        """At the end of a line, move on if the head of a block continues in a later line."""
        before = self.position
        self._skip(lines=True)
        if (
            self.next == "{"
            or words[-1:] == [","]
            or self.text.startswith("inherits", self.position)
        ):
            return True
        self.position = before
        return False

    def _block(self, start: int, words: tuple[str, ...]) -> Item:
        brace, last = self.position, words[-1] if words else ""
        self.position += 1
        inside, items = tuple[str, ...](), tuple[Item, ...]()
        if not _FEATURES.isdisjoint(words):
            self._to(_END_OF_FEATURES)
        elif last in _RAW and words[0] != "struct":
            self._balanced(brace)
        elif last == _INDEXING:
            inside = tuple(self._words(closed_by="}", escapes=True))
        else:
            items = self.items()
        if self.next != "}":
            raise self.error(brace, "the block that begins here is not closed")
        self.position += 1
        return Item(words, start, self.position, inside, brace, items)

    def _value(self, start: int, words: tuple[str, ...]) -> Item:
        self.position += 1
        if words[-1] in _FEATURES:
            self._to(_END_OF_VALUE)
        elif words[-2:-1] and words[-2] in _BINDINGS:
            self._to(_LINE_END)
        elif words[-1] in _RAW:
            self._balanced(None)
        else:
            inside = tuple(self._words(closed_by="", escapes=words[-1] == _INDEXING))
            return Item(words, start, self.position, inside)
        return Item(words, start, self.position)

    def _words(self, *, closed_by: str, escapes: bool) -> Iterator[str]:
        """Yield the words of a value up to its statement's end, or of a block up to its `}`."""
        depth, empty, last = [self.position] if closed_by else [], True, ""
        while True:
            self._skip(lines=bool(depth) or (escapes and last == "|"))
            character, position = self.next, self.position
            if character == "":
                if depth:
                    raise self.error(depth[-1] - 1, "the bracket that begins here is not closed")
                return
            if character == "\n" and not (empty and self._bracket_follows()):
                return
            if character in _CLOSE and len(depth) <= bool(closed_by):
                if character != "}":
                    raise self.error(position, f"a {character} without an opening bracket")
                return
            if character in "\"'":
                self._string(escapes=escapes)
            elif character in _OPEN:
                self.position += 1
                depth.append(self.position)
            elif character in _CLOSE:
                self.position += 1
                depth.pop()
            elif character != "\n":
                word = self._plain()
                if not depth and not empty and self._colon_follows() and word[:1].isalpha():
                    self.position = position  # the next statement, in the same line
                    return
                yield word
            empty, last = empty and character == "\n", character

    def _word(self) -> str:
        """Read a word of a head, including its parentheses; or a string, or a comma."""
        start = self.position
        if self.next in "\"'":
            self._string(escapes=False)
            return self.text[start : self.position]
        while self.next and (self.next not in _ENDS_WORD or self.position == start):
            if self.next == "(":
                self._parentheses()
            else:
                self.position += 1
                if self.text[start] == ",":
                    break
        return self.text[start : self.position]

    def _plain(self) -> str:
        """Read a word of a value, or one other character."""
        word = _PLAIN.match(self.text, self.position)
        self.position = word.end() if word else self.position
        return word.group() if word else ""

    def _parentheses(self) -> None:
        start, depth = self.position, 0
        while self.next:
            depth += (self.next == "(") - (self.next == ")")
            self.position += 1
            if not depth:
                return
        raise self.error(start, "the ( here is not closed")

    def _balanced(self, brace: int | None) -> None:
        """Move to the `}` that closes a block, or to the end of a value's line."""
        depth, start = 0, self.position
        while self._to(_BRACE if depth or brace is not None else _BRACE_OR_END):
            if not depth and self.next != "{":
                return
            depth += 1 if self.next == "{" else -1
            self.position += 1
        if brace is not None or depth:
            raise self.error(start if brace is None else brace, "a { here is not closed")

    def _to(self, pattern: re.Pattern[str]) -> bool:
        """Move to the next match, or to the end of the text; return True if there is a match."""
        match = pattern.search(self.text, self.position)
        self.position = match.start() if match else len(self.text)
        return match is not None

    def _string(self, *, escapes: bool) -> None:
        start, quote = self.position, self.next
        end = self.text.find(quote, start + 1)
        if end < 0:
            raise self.error(start, f"the string that begins here has no closing {quote}")
        while escapes and self.text[end - 1] == "\\":
            # The longest match, as in Vespa: only the last quote after a \ ends the string.
            after = self.text.find(quote, end + 1)
            if after < 0:
                break
            end = after
        self.position = end + 1

    def _skip(self, *, lines: bool) -> None:
        """Skip spaces and comments, and line ends if `lines`."""
        skipped = (_EMPTY_LINES if lines else _SPACES).match(self.text, self.position)
        self.position = skipped.end() if skipped else self.position

    def _colon_follows(self) -> bool:
        position = self.position
        while self.text[position : position + 1] in (" ", "\t"):
            position += 1
        return self.text[position : position + 1] == ":"

    def _bracket_follows(self) -> bool:
        """At the end of a line without a value, move on if the value follows in a later line."""
        before = self.position
        self._skip(lines=True)
        if self.next and self.next in "[{":
            return True
        self.position = before
        return False
