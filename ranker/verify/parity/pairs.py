"""Query-document pairs to compare backends on: nasty texts, or texts of judged data."""

import json
import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ranker.dataset import Dataset
from ranker.records import Document

__all__ = [
    "NASTY_TEXTS",
    "NATURAL_TEXTS",
    "TextPair",
    "judged_pairs",
    "nasty_pairs",
    "special_tokens",
]

SEED = 20261121

NASTY_TEXTS = (
    "",
    "a",
    "the cat sat on the mat",
    "word " * 400,
    "x" * 3000,
    "[CLS] what [SEP] is [PAD] this [MASK] [UNK] <s> </s> <pad> <|endoftext|>",
    "[SEP][SEP][PAD]",
    "😀👩\u200d👩\u200d👧 ☃ ❤\ufe0f 🇫🇷",
    "新型コロナウイルス感染症 東京都の天気 北京",
    "مرحبا بالعالم ١٢٣ \u202bعربي\u202c",
    "हिन्दी ภาษาไทย עברית Ελληνικά Привет 한국어",
    "e\u0301cole nai\u0308ve Z\u0351\u036b\u0343a\u0334l\u0337go \u0301",
    "a\x00b\x07c\x1b[31m\x7f\x85d\ttab\r\nline\u2028end",
    "\ufdd0\uffff\U0001fffe \ue000 \U000f0000",
    "broken \ud83d half of a pair",
    "½ ² ① Ⅷ ﬁne ﬀ ㎏ １２ ٣",
    "²",
    "½",
    "covid-19 don't U.S.A.'s 3.5mg/kg C++ a_b foo@bar.com/x?y=z#t",
    "\u200d\u200b\ufeff\u00ad zero width",
    "!!! ... ??? --- ,,, (((",
    " \t\n\r\u3000 ",
    '"quotes" \\ backslash \\u0041 {"json": [1]} </html> &amp;',
    "0 00 -0 1e308 NaN Infinity null true",
    'title:fox +must -not "a phrase" (x OR y) AND z* rank() @query_text',
)

NATURAL_TEXTS = (
    "how do I read a large file line by line",
    "what causes the high tide at new moon",
    "best way to keep bread fresh for a week",
    "Is a second dose needed after the first infection?",
    "wing flutter at transonic speeds in a wind tunnel",
    "The committee met on 3 May 2019 and agreed on most of the points.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "She sold the house by the river and moved to the city with her two dogs.",
    "A hash table finds a value by its key in constant time on average.",
    "Patients who received the drug recovered two days earlier than the others.",
    "The bridge was closed for repairs, so we took the ferry across the bay.",
    "Rust forms when iron meets water and air; paint keeps both away.",
)

DOCUMENTS = 8
"""Documents of each random query, one pair each."""


@dataclass(frozen=True)
class TextPair:
    """A query and a document."""

    query: str
    document: Document


def special_tokens(tokenizer_json: str) -> list[str]:
    """Return the spellings of a tokenizer's special tokens."""
    added = json.loads(tokenizer_json).get("added_tokens", [])
    return [str(token["content"]) for token in added if token.get("special")]


def nasty_pairs(count: int, *, specials: Sequence[str] = (), seed: int = SEED) -> list[TextPair]:
    """Make pairs of texts that tend to break tokenizers, parsers and protocols.

    Every nasty text is a query once and a document once; then come mixtures of nasty texts,
    natural ones and random characters.  The same seed gives the same pairs.
    """
    chance = random.Random(seed)  # a failure must be reproducible
    texts = [*NASTY_TEXTS, *([" ".join(specials)] if specials else [])]
    pairs = []
    query = ""
    for number in range(count):
        if number < len(texts):
            query, text, title = texts[number], texts[-1 - number], ""
        else:
            text, title = _mixture(chance, texts), _mixture(chance, texts)
            if number % DOCUMENTS == 0:
                query = _mixture(chance, texts, least=1)
        pairs.append(TextPair(query, Document(_doc_id(number), title, text)))
    return pairs


def judged_pairs(dataset: Dataset, count: int, *, seed: int = SEED) -> list[TextPair]:
    """Take a collection's judged pairs in random order, then random ones; seeded."""
    chance = random.Random(seed)
    judged = [(query, doc) for query, grades in dataset.qrels.items() for doc in grades]
    chance.shuffle(judged)
    queries, documents = list(dataset.queries), list(dataset.documents)
    while queries and documents and len(judged) < count:
        judged.append((chance.choice(queries), chance.choice(documents)))
    return [
        TextPair(dataset.queries[query].text, dataset.documents[doc])
        for query, doc in judged[:count]
    ]


def _mixture(chance: random.Random, texts: Sequence[str], *, least: int = 0) -> str:
    parts = [_sample(chance, texts) for _ in range(chance.randint(least, 4))]
    return chance.choice(("", " ")).join(parts)


def _sample(chance: random.Random, texts: Sequence[str]) -> str:
    """Return a nasty text, a natural one, some words of natural ones, or random characters."""
    match chance.randrange(4):
        case 0:
            return chance.choice(texts)
        case 1:
            return chance.choice(NATURAL_TEXTS)
        case 2:
            words = " ".join(NATURAL_TEXTS).split()
            return " ".join(chance.choice(words) for _ in range(chance.randint(1, 30)))
    return _random_word(chance)


def _random_word(chance: random.Random) -> str:
    """Return some assigned characters of one block of plane 0: a word of some script."""
    start = chance.randrange(0x20, 0xFF00)
    characters = [chr(start + chance.randrange(64)) for _ in range(chance.randint(1, 12))]
    return "".join(c for c in characters if unicodedata.category(c) not in ("Cn", "Cs"))


def _doc_id(number: int) -> str:
    return (f"{number}", f"a b/{number}", f"ü?é#{number}", f"a:b::{number}", f"日本-{number}")[
        number % 5
    ]
