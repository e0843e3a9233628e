"""Query-document pairs to compare on: texts made to be nasty, or taken from judged data."""

import json
import random
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from ranker.dataset import Dataset
from ranker.records import Document

__all__ = ["NASTY_TEXTS", "TextPair", "judged_pairs", "nasty_pairs", "special_tokens"]

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


@dataclass(frozen=True)
class TextPair:
    """A question and a document."""

    query: str
    document: Document


def special_tokens(tokenizer_json: str) -> list[str]:
    """Spellings of a tokenizer's special tokens."""
    added = json.loads(tokenizer_json).get("added_tokens", [])
    return [str(token["content"]) for token in added if token.get("special")]


def nasty_pairs(count: int, *, specials: Sequence[str] = (), seed: int = SEED) -> list[TextPair]:
    """Pairs of texts that break tokenizers, parsers and protocols; equal for an equal seed.

    Every nasty text comes as query and as document, then mixtures with random characters.
    """
    chance = random.Random(seed)
    texts = [*NASTY_TEXTS, *([" ".join(specials)] if specials else [])]
    pairs = []
    for number in range(count):
        if number < len(texts):
            query, text, title = texts[number], texts[-1 - number], ""
        else:
            query, text, title = (_mixture(chance, texts) for _ in range(3))
        pairs.append(TextPair(query, Document(_doc_id(number), title, text)))
    return pairs


def judged_pairs(dataset: Dataset, count: int, *, seed: int = SEED) -> list[TextPair]:
    """Judged pairs of a collection in random order, then random ones; equal for an equal seed."""
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


def _mixture(chance: random.Random, texts: Sequence[str]) -> str:
    parts = [
        chance.choice(texts) if chance.random() < 0.6 else _random_word(chance)
        for _ in range(chance.randint(0, 4))
    ]
    return chance.choice(("", " ")).join(parts)


def _random_word(chance: random.Random) -> str:
    """Some assigned characters of one plane-0 block: a word of some script."""
    start = chance.randrange(0x20, 0xFF00)
    signs = [chr(start + chance.randrange(64)) for _ in range(chance.randint(1, 12))]
    return "".join(sign for sign in signs if unicodedata.category(sign) not in ("Cn", "Cs"))


def _doc_id(number: int) -> str:
    return (f"{number}", f"a b/{number}", f"ü?é#{number}", f"a:b::{number}", f"日本-{number}")[
        number % 5
    ]
