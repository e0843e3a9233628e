"""A clean judged collection for the linter, to plant faults in, and a tokenizer of whole words."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ranker.contract.encode import Encoder, spec_of_tokenizer
from ranker.lint import LintReport, lint, read_collection

QUERIES = 100


class Planted:
    """A BEIR folder in the making; `clean` gives one without a fault."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, str]] = {}
        self.queries: dict[str, str] = {}
        self.qrels: dict[str, list[tuple[str, str, str]]] = {"test": []}
        self.extra_lines: dict[str, list[str]] = {}

    def document(self, doc_id: str, title: str, text: str) -> None:
        self.documents[doc_id] = {"_id": doc_id, "title": title, "text": text}

    def judge(self, query_id: str, doc_id: str, grade: int, split: str = "test") -> None:
        self.qrels.setdefault(split, []).append((query_id, doc_id, str(grade)))

    def split(self, query_ids: set[str], name: str) -> None:
        """Move the judgements of some queries to a split of their own."""
        rows = self.qrels["test"]
        self.qrels[name] = [row for row in rows if row[0] in query_ids]
        self.qrels["test"] = [row for row in rows if row[0] not in query_ids]

    def write(self, folder: Path) -> Path:
        (folder / "qrels").mkdir(parents=True)
        queries = [{"_id": query_id, "text": text} for query_id, text in self.queries.items()]
        lines = {
            "corpus.jsonl": [json.dumps(row) for row in self.documents.values()],
            "queries.jsonl": [json.dumps(row) for row in queries],
            **{
                f"qrels/{name}.tsv": ["query-id\tcorpus-id\tscore", *map("\t".join, rows)]
                for name, rows in self.qrels.items()
            },
        }
        for name, own in lines.items():
            text = "\n".join([*own, *self.extra_lines.get(name, ())])
            (folder / name).write_text(text + "\n", encoding="utf-8")
        return folder

    def lint(self, folder: Path, **options) -> LintReport:
        """Write, read and lint."""
        return lint(read_collection(self.write(folder)), **{"encoder": word_encoder(), **options})


PARTS = (
    "arm art ash back ball band bank barn base bean bear bell belt bird boat body bone book boot "
    "bowl bull burn bush cake calf camp cap card cart cave city clay club coal coat cook corn crab "
    "crop cup dark day deep deer desk dish dock door dust east farm fire fish flag foot fork frog "
    "gate gold gulf hair half hall hand hard hat head hill home hook horn iron jar keel king lake "
    "lamb lamp land leaf life line lock long mail milk mill mind moon nail neck nest news oak "
    "oil park path pine pond pool rail rain road rock roof rope rose salt sand seed ship shop show "
    "silk skin snow soil song star stem sun tail tank tide town tree wall week well west wind wing "
    "wolf wood wool yard"
).split()


def words(seed: int = 0) -> Iterator[str]:
    """Synthetic words that look English, each once; seeds from 0 to 5 share none."""
    rng, seen = random.Random(seed), set()
    half = len(PARTS) // 2
    last = PARTS[:half] if seed == 0 else PARTS[half:][seed - 1 :: 5]
    while True:
        word = rng.choice(PARTS) + rng.choice(last)
        if word not in seen:
            seen.add(word)
            yield word


def clean() -> Planted:
    """100 queries, each with an answer and two documents judged not relevant.

    What a query asks for occurs in its three documents only, so BM25 finds nothing
    unjudged; all documents have a title and about twenty words.
    """
    data, new = Planted(), words()
    for number in range(QUERIES):
        asked = [next(new) for _ in range(3)]
        data.queries[f"q{number}"] = f"find {asked[0]} and {asked[1]} for {asked[2]}"
        for at, grade in enumerate((2, 0, 0)):
            doc_id = f"d{number}-{at}"
            others = [next(new) for _ in range(14)]
            title = f"The {asked[at]} of the {others[0]} in {others[1]}"
            kept = asked if grade else asked[:2]
            data.document(doc_id, title, f"It is {' '.join(kept)} with {' '.join(others[2:])} now.")
            data.judge(f"q{number}", doc_id, grade)
    return data


def word_encoder(query_slots: int = 16, document_slots: int = 42) -> Encoder:
    """Every word and every sign is one token."""
    special = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
    tokenizer = Tokenizer(models.WordLevel(special, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(list(special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    spec = spec_of_tokenizer(
        tokenizer.to_str(),
        vocabulary_size=len(special),
        max_positions=512,
        segments=True,
        query_slots=query_slots,
        document_slots=document_slots,
    )
    return Encoder(spec, tokenizer.to_str())
