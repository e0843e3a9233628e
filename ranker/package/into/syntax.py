r"""Vespa's schema language, as far as its blocks go: what begins and ends where.

After the token rules of Vespa's own grammar (`config-model/src/main/javacc/SchemaParser.jj` and
`indexinglanguage/src/main/javacc/IndexingParser.jj`), which have four kinds of text in which a
brace, a quote or a `#` means different things:

- statements and blocks, with comments and with strings that know no escapes;
- indexing statements, with comments and with strings in which `\"` is a quote;
- ranking expressions and tensor values, where only braces count;
- feature lists, which end at the first `}`, and bindings of an onnx-model, at the line's end.

Nothing is changed and nothing is judged here; places are offsets into the text.
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

_BLANKS = re.compile(r"(?:[ \t\r\f\ufeff]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\f\ufeff\n]|#[^\r\n]*)*")
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
        words: what stands before its `:` or `{`; a comma is a word.
        start: where the first word begins.
        end: just after its last character.
        inside: the words of its value, or of a block that is not made of statements.
        brace: where the `{` of a block is.
        items: what is in the block.
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
        """The second word: what a block is called."""
        return self.words[1] if len(self.words) > 1 else ""

    @property
    def inherits(self) -> tuple[str, ...]:
        """The names after `inherits`."""
        if "inherits" not in self.words[2:]:
            return ()
        after = self.words[self.words.index("inherits", 2) + 1 :]
        return tuple(word for word in after if word != ",")

    def all_words(self) -> Iterator[str]:
        """Every word in it, comments and strings left out."""
        yield from self.words
        yield from self.inside
        for item in self.items:
            yield from item.all_words()


def parse(text: str, *, where: str) -> tuple[Item, ...]:
    """The items of a schema or rank-profile file.

    Raises:
        ArtifactError: a block, a bracket or a string does not end, or one ends that did not begin.
    """
    scanner = _Scanner(text, where)
    items = scanner.items()
    if scanner.here:
        raise scanner.error(scanner.at, "a } that closes nothing")
    return items


class _Scanner:
    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.at = text, where, 0

    @property
    def here(self) -> str:
        """The next character; nothing at the end."""
        return self.text[self.at : self.at + 1]

    def error(self, at: int, what: str) -> ArtifactError:
        line = self.text.count("\n", 0, at) + 1
        return ArtifactError(f"{self.where}, line {line}: {what}")

    def items(self) -> tuple[Item, ...]:
        """Items up to the `}` of their block, or to the end."""
        found = []
        self._skip(lines=True)
        while self.here and self.here != "}":
            found.append(self._item())
            self._skip(lines=True)
        return tuple(found)

    def _item(self) -> Item:
        start, words, end = self.at, list[str](), self.at
        while True:
            self._skip(lines=False)
            if self.here == "{":
                return self._block(start, tuple(words))
            if self.here == ":" and words:
                return self._value(start, tuple(words))
            if self.here == "\n" and self._goes_on(words):
                continue
            if self.here in ("", "\n", "}"):
                return Item(tuple(words), start, end)
            words.append(self._word())
            end = self.at

    def _goes_on(self, words: list[str]) -> bool:
        """At a line's end: whether the head of a block goes on in a later line; goes there."""
        before = self.at
        self._skip(lines=True)
        if self.here == "{" or words[-1:] == [","] or self.text.startswith("inherits", self.at):
            return True
        self.at = before
        return False

    def _block(self, start: int, words: tuple[str, ...]) -> Item:
        brace, last = self.at, words[-1] if words else ""
        self.at += 1
        inside, items = tuple[str, ...](), tuple[Item, ...]()
        if not _FEATURES.isdisjoint(words):
            self._to(_END_OF_FEATURES)
        elif last in _RAW and words[0] != "struct":
            self._balanced(brace)
        elif last == _INDEXING:
            inside = tuple(self._words(closed_by="}", escapes=True))
        else:
            items = self.items()
        if self.here != "}":
            raise self.error(brace, "the block that begins here is never closed")
        self.at += 1
        return Item(words, start, self.at, inside, brace, items)

    def _value(self, start: int, words: tuple[str, ...]) -> Item:
        self.at += 1
        if words[-1] in _FEATURES:
            self._to(_END_OF_VALUE)
        elif words[-2:-1] and words[-2] in _BINDINGS:
            self._to(_LINE_END)
        elif words[-1] in _RAW:
            self._balanced(None)
        else:
            inside = tuple(self._words(closed_by="", escapes=words[-1] == _INDEXING))
            return Item(words, start, self.at, inside)
        return Item(words, start, self.at)

    def _words(self, *, closed_by: str, escapes: bool) -> Iterator[str]:
        """Words of a value up to the end of its statement, or of a block up to its brace."""
        depth, empty, last = [self.at] if closed_by else [], True, ""
        while True:
            self._skip(lines=bool(depth) or (escapes and last == "|"))
            sign, at = self.here, self.at
            if sign == "":
                if depth:
                    raise self.error(depth[-1] - 1, "the bracket that begins here is never closed")
                return
            if sign == "\n" and not (empty and self._bracket_follows()):
                return
            if sign in _CLOSE and len(depth) <= bool(closed_by):
                if sign != "}":
                    raise self.error(at, f"a {sign} that closes nothing")
                return
            if sign in "\"'":
                self._string(escapes=escapes)
            elif sign in _OPEN:
                self.at += 1
                depth.append(self.at)
            elif sign in _CLOSE:
                self.at += 1
                depth.pop()
            elif sign != "\n":
                word = self._plain()
                if not depth and not empty and self._colon_follows() and word[:1].isalpha():
                    self.at = at  # the next statement, in the same line
                    return
                yield word
            empty, last = empty and sign == "\n", sign

    def _word(self) -> str:
        """A word of a head, with what is in its parentheses; or a string, or a comma."""
        start = self.at
        if self.here in "\"'":
            self._string(escapes=False)
            return self.text[start : self.at]
        while self.here and (self.here not in _ENDS_WORD or self.at == start):
            if self.here == "(":
                self._parentheses()
            else:
                self.at += 1
                if self.text[start] == ",":
                    break
        return self.text[start : self.at]

    def _plain(self) -> str:
        """A word of a value, or one sign."""
        found = _PLAIN.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found.group() if found else ""

    def _parentheses(self) -> None:
        start, depth = self.at, 0
        while self.here:
            depth += (self.here == "(") - (self.here == ")")
            self.at += 1
            if not depth:
                return
        raise self.error(start, "the ( that begins here is never closed")

    def _balanced(self, brace: int | None) -> None:
        """Goes to the `}` that closes a block, or to the end of a value's line."""
        depth, start = 0, self.at
        while self._to(_BRACE if depth or brace is not None else _BRACE_OR_END):
            if not depth and self.here != "{":
                return
            depth += 1 if self.here == "{" else -1
            self.at += 1
        if brace is not None or depth:
            raise self.error(start if brace is None else brace, "a { here is never closed")

    def _to(self, sign: re.Pattern[str]) -> bool:
        """Goes to the next sign of some, or to the end; whether there is one."""
        found = sign.search(self.text, self.at)
        self.at = found.start() if found else len(self.text)
        return found is not None

    def _string(self, *, escapes: bool) -> None:
        start, quote = self.at, self.here
        end = self.text.find(quote, start + 1)
        if end < 0:
            raise self.error(start, f"the string that begins here has no closing {quote}")
        while escapes and self.text[end - 1] == "\\":
            # The longest match, as in Vespa: a quote after a \ ends it only if it is the last.
            after = self.text.find(quote, end + 1)
            if after < 0:
                break
            end = after
        self.at = end + 1

    def _skip(self, *, lines: bool) -> None:
        """Goes over blanks and comments, and over line ends if `lines`."""
        found = (_BLANK_LINES if lines else _BLANKS).match(self.text, self.at)
        self.at = found.end() if found else self.at

    def _colon_follows(self) -> bool:
        at = self.at
        while self.text[at : at + 1] in (" ", "\t"):
            at += 1
        return self.text[at : at + 1] == ":"

    def _bracket_follows(self) -> bool:
        """At the end of a line without a value: whether the value follows; goes there."""
        before = self.at
        self._skip(lines=True)
        if self.here and self.here in "[{":
            return True
        self.at = before
        return False
