"""Letters that were decoded wrongly, leftovers of markup, and other languages."""

import functools
import html
import os.path
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from ranker.errors import MissingExtra, require
from ranker.lexical.bm25 import contents
from ranker.lint.finding import Example, Finding, Kind, clip, first
from ranker.lint.inspection import Inspection, part, percent, sample

__all__ = ["KINDS", "find", "is_foreign", "repaired"]

regex = require("regex", extra="lexical")

MOJIBAKE = Kind(
    "mojibake",
    "UTF-8 that was read as Latin-1 or Windows-1252",
    "The words in question match nothing that people type.",
    "Read the source again as UTF-8, or repair the texts with ftfy.fix_encoding.",
)
REPLACED = Kind(
    "replacement-characters",
    "U+FFFD, which stands for a letter that could not be decoded",
    "The letter is lost, and the word with it.",
    "Read the source again in its true encoding (often Windows-1252).",
)
MARKUP = Kind(
    "html-leftovers",
    "HTML tags and entities in the text",
    "They take slots from the text, and BM25 indexes them as words (br, nbsp, amp).",
    "Strip the tags and decode the entities before feeding and training.",
)
CONTROL = Kind(
    "control-characters",
    "control, invisible and private characters",
    "They split or join words without being seen, and Vespa rejects some of them.",
    "Remove them: delete soft hyphens, and replace the others by a space.",
)
UNNORMALISED = Kind(
    "unnormalised-unicode",
    "decomposed letters (e + accent) and typographic ligatures (ﬁ)",
    "Tokenizers that do not normalise see other tokens than for the same word typed by a person.",
    "Normalise all texts to NFC and replace the ligatures (unicodedata.normalize('NFKC', …)).",
)
MIXED = Kind(
    "mixed-scripts",
    "words that mix Latin and Cyrillic letters",
    "The letters look alike but differ, so the word matches nothing that people type.",
    "Replace the look-alikes by letters of one script.",
)
FOREIGN = Kind(
    "other-languages",
    "documents and queries that are not English",
    "The first phase stems as for English, and an English base model hardly knows other languages: "
    "such documents are found less often and ranked badly.",
    "Leave them out, or set the language of the schema and start from a multilingual base model.",
)

KINDS = (MOJIBAKE, REPLACED, CONTROL, MARKUP, MIXED, UNNORMALISED, FOREIGN)

OFTEN = 0.005
"""Share of the texts from which a kind is a warning; a few in thousands change nothing."""
FOREIGN_OFTEN = 0.05
SURE = 0.7
"""Probability from which a text counts as being in another language."""
SAMPLE = 1000
AROUND = 30
READ = 300
"""Characters of a text that its language is detected from."""

_TAG = re.compile(
    r"</?(?:a|abbr|b|blockquote|br|center|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|span|strong|sub"
    r"|sup|table|tbody|td|th|tr|tt|u|ul)(?:\s+[a-z-]+\s*=[^<>]*|\s*/?)>",
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}[0-9]{0,2}|#[0-9]{2,6}|#[xX][0-9a-fA-F]{2,6});")
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u00ad\u200b\u2028\u2029\u2060\ufeff\ufff9-\ufffb"
    "\ue000-\uf8ff]"
)
_LIGATURE = re.compile("[\ufb00-\ufb06]")
_MIXED = regex.compile(r"\w*(?:\p{Latin}\p{Cyrillic}|\p{Cyrillic}\p{Latin})\w*")
_CYRILLIC = re.compile("[\u0400-\u052f]")
_NOT_ASCII = re.compile("[^\x00-\x7f]{2}")
"""Every letter outside ASCII is two bytes or more in UTF-8, so two letters when decoded wrongly."""

Spot = tuple[int, int, str]
"""Start and end of something in a text, and a note on it."""


def find(inspection: Inspection) -> Iterator[Finding]:
    """Yield findings about characters, markup and languages."""
    searches = dict(_SEARCHES)
    try:
        _ftfy()
    except MissingExtra as error:
        inspection.skip("mojibake", str(error), (MOJIBAKE,))
        del searches[MOJIBAKE]
    in_ascii = {kind: searches[kind] for kind in (MARKUP, CONTROL)}
    examples: dict[Kind, list[Example]] = defaultdict(list)
    counts: dict[Kind, int] = defaultdict(int)
    for text, ids, place in _texts(inspection):
        for kind, search in (in_ascii if text.isascii() else searches).items():
            if (spot := search(text)) is not None:
                counts[kind] += 1
                if len(examples[kind]) < 10 * inspection.examples:
                    examples[kind].append(Example(ids, _excerpt(text, spot), place))
    total = len(inspection.documents) + len(inspection.collection.qrels)
    for kind in KINDS:
        if count := counts[kind]:
            yield kind.finding(
                "warning" if kind is not UNNORMALISED and count >= OFTEN * total else "note",
                f"{part(count, total)} texts hold {kind.about}",
                count=count,
                total=total,
                unit="texts",
                examples=first(examples[kind], inspection.examples),
            )
    try:
        yield from _foreign(inspection)
    except MissingExtra as error:
        inspection.skip("other languages", str(error), (FOREIGN,))
    except OSError as error:  # py3langid unpacks its model into a temporary file
        reason = f"py3langid cannot unpack its model ({error.strerror})"
        inspection.skip("other languages", reason, (FOREIGN,))


def repaired(word: str) -> str | None:
    """Return what a word was before it was decoded wrongly, or None if nothing is wrong with it.

    Raises:
        MissingExtra: ftfy is not installed.
    """
    ftfy = _ftfy()
    if not ftfy.is_bad(word):
        return None
    # Where nothing gets shorter, it was not UTF-8: control characters are a finding of their own.
    fixed: str = ftfy.fix_encoding(word)
    return fixed if len(fixed) < len(word) else None


def is_foreign(text: str) -> bool:
    """Return True if a text is surely not English.

    Raises:
        MissingExtra: py3langid is not installed.
    """
    language, probability = _language_identifier().classify(text[:READ])
    return bool(language != "en" and probability >= SURE)


def _ftfy() -> ModuleType:
    return require("ftfy", extra="lint")


@functools.cache
def _language_identifier() -> Any:  # py3langid has no types
    langid = require("py3langid", extra="lint").langid
    identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    # Titles of English papers are full of Latin words; a collection in Latin is unlikely.
    identifier.set_languages([language for language in identifier.labels if language != "la"])
    return identifier


def _texts(inspection: Inspection) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    """Yield every document and judged query with its id and its place."""
    collection = inspection.collection
    for document in inspection.documents:
        place = collection.document_place(document.doc_id)
        yield contents(document), (document.doc_id,), place
    for query_id in collection.qrels:
        yield inspection.text(query_id), (query_id,), collection.query_place(query_id)


def _mojibake(text: str) -> Spot | None:
    end = 0
    while match := _NOT_ASCII.search(text, end):
        start = text.rfind(" ", 0, match.start()) + 1
        end = text.find(" ", match.end())
        end = len(text) if end < 0 else end
        word = text[start:end]
        if (fixed := repaired(word)) is not None:
            same = len(os.path.commonprefix([word, fixed]))
            same_end = len(os.path.commonprefix([word[same:][::-1], fixed[same:][::-1]]))
            right = fixed[same : len(fixed) - same_end]
            return start + same, end - same_end, f" (was it {right!r}?)"
    return None


def _replaced(text: str) -> Spot | None:
    start = text.find("\ufffd")
    return None if start < 0 else (start, start + 1, "")


def _markup(text: str) -> Spot | None:
    if "<" in text and (match := _TAG.search(text)):
        return (*match.span(), "")
    if "&" in text:
        for match in _ENTITY.finditer(text):
            if html.unescape(match.group()) != match.group():
                return (*match.span(), "")
    return None


def _control(text: str) -> Spot | None:
    if text.isprintable():  # ten times faster, and true of nearly all texts
        return None
    match = _CONTROL.search(text)
    return (*match.span(), "") if match else None


def _unnormalised(text: str) -> Spot | None:
    match = _LIGATURE.search(text)
    if match:
        return (*match.span(), "")
    if unicodedata.is_normalized("NFC", text):
        return None
    composed = unicodedata.normalize("NFC", text)
    start = next((n for n, (a, b) in enumerate(zip(text, composed, strict=False)) if a != b), 0)
    follows = text[start + 1 : start + 2] or " "
    return start, start + 1 + bool(unicodedata.combining(follows)), ""


def _mixed(text: str) -> Spot | None:
    match = _MIXED.search(text) if _CYRILLIC.search(text) else None
    return (*match.span(), "") if match else None


_SEARCHES: dict[Kind, Callable[[str], Spot | None]] = {
    MOJIBAKE: _mojibake,
    REPLACED: _replaced,
    MARKUP: _markup,
    CONTROL: _control,
    UNNORMALISED: _unnormalised,
    MIXED: _mixed,
}
"""How the first spot of each kind in a text is found."""


def _excerpt(text: str, spot: Spot) -> str:
    """Return a spot with the words around it; characters that do not print are escaped."""
    start, end, note = spot
    before, after = text[max(0, start - AROUND) : start], text[end : end + AROUND]
    inside = "".join(
        f"\\u{ord(c):04x}" if unicodedata.combining(c) or not _is_plain(c) else c
        for c in text[start:end]
    )
    return f"{clip(before)}[{inside}]{clip(after)}{note}"


def _is_plain(letter: str) -> bool:
    return letter.isprintable() and unicodedata.is_normalized("NFC", letter)


def _foreign(inspection: Inspection) -> Iterator[Finding]:
    """Find queries and documents that are not English; of many documents, in a sample."""
    chosen = sample(inspection.documents, SAMPLE)
    asked = sample(inspection.collection.qrels, SAMPLE)
    documents = [d.doc_id for d in chosen if is_foreign(f"{d.title} {d.text}")]
    queries = [query_id for query_id in asked if is_foreign(inspection.text(query_id))]
    if not documents and not queries:
        return
    shares = {"documents": len(documents) / len(chosen), "queries": len(queries) / len(asked)}
    named = [f"{percent(share)} of the {name}" for name, share in shares.items() if share]
    examples = [
        *map(inspection.document_example, documents),
        *map(inspection.query_example, queries),
    ]
    yield FOREIGN.finding(
        "warning" if max(shares.values()) >= FOREIGN_OFTEN else "note",
        f"{' and '.join(named)} are not English",
        count=len(documents) + len(queries),
        total=len(chosen) + len(asked),
        unit="texts",
        examples=first(examples, inspection.examples),
        figures={**shares, "sampled": len(chosen)},
    )
