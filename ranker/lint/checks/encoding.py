"""Letters that went wrong on the way, leftovers of markup, and other languages."""

import html
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping

from ranker.errors import require
from ranker.lexical.bm25 import contents
from ranker.lint.finding import Example, Finding, Kind, clip, first
from ranker.lint.inspection import Inspection, part, percent, sample

__all__ = ["KINDS", "find", "is_foreign", "mended"]

regex = require("regex", extra="lexical")

MOJIBAKE = Kind(
    "mojibake",
    "UTF-8 that was read as Latin-1 or Windows-1252",
    "The words in question match nothing that people type.",
    "Read the source again as UTF-8, or repair the texts (the library ftfy does).",
)
REPLACED = Kind(
    "replacement-characters",
    "U+FFFD, the sign for a letter that could not be decoded",
    "The letter is lost, and the word with it.",
    "Read the source again with its true encoding (often Windows-1252).",
)
MARKUP = Kind(
    "html-leftovers",
    "HTML tags and entities in the text",
    "They take slots from the text, and BM25 indexes them as words (br, nbsp, amp).",
    "Strip the tags and decode the entities before you feed and train.",
)
CONTROL = Kind(
    "control-characters",
    "control, invisible and private characters",
    "They part words or join them unseen, and Vespa refuses some of them.",
    "Remove them; a soft hyphen goes without a trace, the others become a blank.",
)
UNNORMALISED = Kind(
    "unnormalised-unicode",
    "letters in parts (e + accent) and ligatures of print (ﬁ)",
    "Tokenizers that do not normalise see other tokens than for the same word typed by a person.",
    "Normalise all texts to NFC and replace the ligatures (unicodedata.normalize('NFKC', …)).",
)
MIXED = Kind(
    "mixed-scripts",
    "words with Latin and Cyrillic letters together",
    "The letters look alike and are others, so the word matches nothing that people type.",
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
"""Share of the texts from which it is a warning; a few in thousands change nothing."""
FOREIGN_OFTEN = 0.05
SAMPLE = 5000
AROUND = 30
READ = 800
"""Characters of a document from which its language is told."""

_HIGH = {bytes([b]).decode("cp1252", "ignore") or chr(b): b for b in range(0x80, 0x100)}
_HIGH |= {chr(b): b for b in range(0x80, 0xA0)}
# First bytes of what two or three bytes of UTF-8 spell in Latin, Greek and Cyrillic, as letters;
# after a number, Å is the unit of length.
_MOJIBAKE = re.compile(
    r"(?:[ÂÃÄÎÏÐÑâ]|(?<!\d)(?<!\d\s)Å)["
    + "".join(re.escape(c) for c, b in _HIGH.items() if b < 0xC0)
    + "]{1,2}"
)
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
_LETTER = regex.compile(r"\p{L}")
_NOT_LATIN = regex.compile(r"(?!\p{Latin})\p{L}")
_WORD = re.compile(r"[^\W\d_]+")

_ENGLISH = frozenset(
    "the of and to in a is for with that on as by are was from an be this which at or were it "
    "not have has how what when where who why does do can".split()
)
_OTHERS = tuple(
    frozenset(words.split()) - _ENGLISH
    for words in (
        "der die das und nicht ist mit von für auf den dem ein eine werden wird auch sich bei im",
        "le la les des et est une dans pour que qui sur du au par avec ne pas aux un l d",
        "el la los las de que y en un una por con para del se es al como lo",
        "il lo gli che di della delle dei per con non una sono nel e i le del un la",
        "os de que do da em um uma para com não se na no e dos das ao",
        "de het een en van dat niet op te met voor zijn aan door bij ook",
    )
)

Spot = tuple[int, int, str]
"""Where something is in a text, and what to say of it."""


def find(inspection: Inspection) -> Iterator[Finding]:
    """Findings about characters, markup and languages."""
    found: dict[str, list[Example]] = defaultdict(list)
    counts: dict[str, int] = defaultdict(int)
    for text, ids, place in _texts(inspection):
        for kind, spot in _spots(text):
            counts[kind.id] += 1
            if len(found[kind.id]) < 10 * inspection.examples:
                found[kind.id].append(Example(ids, _shown(text, spot), place))
    total = len(inspection.documents) + len(inspection.collection.qrels)
    for kind in KINDS:
        if count := counts[kind.id]:
            grave = kind in (MOJIBAKE, REPLACED, CONTROL, MARKUP, MIXED)
            yield kind.found(
                "warning" if grave and count >= OFTEN * total else "note",
                f"{part(count, total)} texts hold {kind.about}",
                count=count,
                total=total,
                unit="texts",
                examples=first(found[kind.id], inspection.examples),
            )
    yield from _foreign(inspection)


def mended(text: str) -> str | None:
    """What a run of mojibake was before it was decoded wrongly; None if it is not mojibake."""
    try:
        repaired = bytes(_HIGH[letter] for letter in text).decode()
    except (KeyError, UnicodeDecodeError):
        return None
    return repaired if repaired.isprintable() or repaired == "\xa0" else None


def is_foreign(text: str) -> bool:
    """Whether a text is surely not English: by its letters, or by its little words.

    Most of its letters are not Latin, or at least a seventh of eight or more words are
    articles, prepositions and the like of one other European language, and twice as many as
    there are English ones.
    """
    if not text.isascii():
        other_script = len(_NOT_LATIN.findall(text))
        if other_script >= 3 and 2 * other_script > len(_LETTER.findall(text)):
            return True
    words = _WORD.findall(text.lower())
    if len(words) < 8:
        return False
    english = sum(word in _ENGLISH for word in words)
    other = max(sum(word in own for word in words) for own in _OTHERS)
    return 7 * other >= len(words) and other > 2 * english


def _texts(inspection: Inspection) -> Iterator[tuple[str, tuple[str, ...], str | None]]:
    """Every document and judged query with its id and its place."""
    collection = inspection.collection
    for document in inspection.documents:
        place = collection.document_place(document.doc_id)
        yield contents(document), (document.doc_id,), place
    for query_id in collection.qrels:
        yield inspection.text(query_id), (query_id,), collection.query_place(query_id)


def _spots(text: str) -> Iterator[tuple[Kind, Spot]]:
    """The first spot of each kind in a text."""
    for kind, look in (_ASCII if text.isascii() else _ANY).items():
        spot = look(text)
        if spot is not None:
            yield kind, spot


def _mojibake(text: str) -> Spot | None:
    for match in _MOJIBAKE.finditer(text):
        # Three bytes are tried before two: â€™ is one letter, Ã©€ a letter and a sign.
        for end in (match.end(), match.start() + 2):
            repaired = mended(text[match.start() : end])
            if repaired is not None and len(repaired) == 1:
                return match.start(), end, f" (was it {repaired!r}?)"
    return None


def _replaced(text: str) -> Spot | None:
    at = text.find("\ufffd")
    return None if at < 0 else (at, at + 1, "")


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
    at = next((n for n, (a, b) in enumerate(zip(text, composed, strict=False)) if a != b), 0)
    return at, at + 1 + bool(unicodedata.combining(text[at + 1 : at + 2] or " ")), ""


def _mixed(text: str) -> Spot | None:
    match = _MIXED.search(text) if _CYRILLIC.search(text) else None
    return (*match.span(), "") if match else None


_ASCII: Mapping[Kind, Callable[[str], Spot | None]] = {MARKUP: _markup, CONTROL: _control}
_ANY: Mapping[Kind, Callable[[str], Spot | None]] = {
    MOJIBAKE: _mojibake,
    REPLACED: _replaced,
    **_ASCII,
    UNNORMALISED: _unnormalised,
    MIXED: _mixed,
}


def _shown(text: str, spot: Spot) -> str:
    """A spot with the words around it; what does not print is escaped."""
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
    """Queries and documents that are not English; of many documents a sample tells."""
    qrels = inspection.collection.qrels
    chosen = sample(inspection.documents, SAMPLE)
    documents = [d.doc_id for d in chosen if is_foreign(f"{d.title} {d.text}"[:READ])]
    queries = [query_id for query_id in qrels if is_foreign(inspection.text(query_id))]
    shares = {"documents": len(documents) / len(chosen), "queries": len(queries) / len(qrels)}
    if not documents and not queries:
        return
    said = [f"{percent(share)} of the {name}" for name, share in shares.items() if share]
    examples = [
        *map(inspection.document_example, documents),
        *map(inspection.query_example, queries),
    ]
    yield FOREIGN.found(
        "warning" if max(shares.values()) >= FOREIGN_OFTEN else "note",
        f"{' and '.join(said)} are not English",
        count=len(documents) + len(queries),
        total=len(chosen) + len(qrels),
        unit="texts",
        examples=first(examples, inspection.examples),
        figures={**shares, "sampled": len(chosen)},
    )
