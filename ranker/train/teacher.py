"""A teacher: a cross-encoder whose scores are learned from, each pair scored once.

Scores are kept in the user's cache, in one SQLite file for each teacher (its weights and its
contract), so that a second run, a resumed one and the other folds reuse them.  Which pairs are
computed together changes the last digits of a score; the first one that is written counts.
"""

import contextlib
import hashlib
import json
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ranker.contract.encode import Encoder, document_text
from ranker.contract.spec import TokenSpec
from ranker.dataset import Dataset
from ranker.dataset.groups import TrainingGroup
from ranker.errors import TrainError, UsageError, require
from ranker.files import cache_folder, read_json
from ranker.model.base import UnreadableModel, load_weights, open_base, predict
from ranker.model.forward import forward_of
from ranker.model.provenance import model_provenance
from ranker.model.task import RELEVANCE, TASKS
from ranker.records import Document
from ranker.train import processes
from ranker.train.arguments import TrainArguments

__all__ = ["Teacher", "require_scores", "with_scores"]

logger = logging.getLogger(__name__)

CHUNK = 1024
"""Pairs between two commits: what a kill can cost."""
_MOST_VARIABLES = 500
_PATIENCE_S = 60.0

Report = Callable[[int, int], None]
Pair = tuple[str, str]


class Teacher:
    """A cross-encoder with one logit, its own tokenizer and its own contract.

    A sentence encoder with mean pooling is one by its head on similarity, without any training.

    Args:
        name: folder or Hugging Face id.
        query_slots: slots of its contract; a checkpoint of ranker has its own.
        document_slots: likewise.

    Raises:
        TrainError: the model cannot be reached, or has no tokenizer.
        SpecError: the contract does not fit the model.
    """

    def __init__(self, name: str, *, query_slots: int, document_slots: int) -> None:
        try:
            self._base = open_base(name)
        except UnreadableModel as error:
            raise TrainError(f"teacher {name!r}: {error.reason}") from error
        spec = Path(self._base.source) / "spec.json"
        if spec.is_file():
            self.spec = TokenSpec.from_dict(read_json(spec, what="checkpoint"))
        else:
            self.spec = self._base.spec(query_slots=query_slots, document_slots=document_slots)
        self._encoder = Encoder(self.spec, self._base.tokenizer_json)
        self.provenance: dict[str, Any] = model_provenance(self._base)

    @classmethod
    def of(cls, arguments: TrainArguments) -> "Teacher | None":
        """Return the teacher that a run names, if any; it reads as much of a text as its pupil."""
        if arguments.teacher is None:
            return None
        slots = {"query_slots": arguments.query_slots, "document_slots": arguments.document_slots}
        return cls(arguments.teacher, **slots)

    def load(self) -> Any:
        """Return its forward, on the GPU if there is one.

        Raises:
            ArtifactError: the weights cannot be read, or have no single-logit head.
        """
        torch = require("torch", extra="train")
        similarity = self._base.similarity(self.spec)
        model = load_weights(self._base.source, own_head=True, similarity=similarity)
        forward, _ = forward_of(model, segments=self.spec.segments, fused=True)
        return forward.cuda() if torch.cuda.is_available() else forward

    def scores(
        self, pairs: Sequence[tuple[str, Document]], *, report: Report = lambda *_: None
    ) -> list[float]:
        """Return the logit of each pair of query and document, from the cache if it has it.

        Args:
            pairs: query texts and documents.
            report: called with the number of scored pairs that the cache lacks, and of all those.

        Raises:
            ArtifactError: the weights cannot be read.
            TrainError: the cache is damaged, or a score is not a number.
        """
        texts = [(query, document_text(document, self.spec)) for query, document in pairs]
        keys = {pair: _key(pair) for pair in dict.fromkeys(texts)}
        with _opened(self._cache()) as cache:
            known = _cached(cache, keys.values())
            missing = {key: pair for pair, key in keys.items() if key not in known}
            if missing:
                self._score(cache, missing, report)
                known |= _cached(cache, missing)
        return [known[keys[pair]] for pair in texts]

    def _score(
        self, cache: sqlite3.Connection, missing: Mapping[bytes, Pair], report: Report
    ) -> None:
        """Score pairs and keep the scores; the weights are in memory only for that time."""
        forward = self.load()
        rows = list(missing.items())
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            outputs = predict(
                forward,
                self.spec,
                self._encoder.queries_ids([query for _, (query, _) in chunk]),
                self._encoder.texts_ids([text for _, (_, text) in chunk]),
            )
            logits = RELEVANCE.score(outputs)
            if not np.isfinite(logits).all():
                query = chunk[int(np.flatnonzero(~np.isfinite(logits))[0])][1][0]
                raise TrainError(
                    f"teacher {self._base.name!r}: its score of a document for the query "
                    f"{query[:60]!r} is not a number; name another teacher"
                )
            scored = zip((key for key, _ in chunk), map(float, logits), strict=True)
            with cache:
                cache.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?)", scored)
            report(start + len(chunk), len(rows))

    def _cache(self) -> Path:
        """Return the file of this teacher's scores, named after its weights and contract."""
        identity = json.dumps([self.provenance["files"], self.spec.to_dict()], sort_keys=True)
        digest = hashlib.sha256(identity.encode()).hexdigest()
        return cache_folder() / "teachers" / f"{digest[:24]}.sqlite"


def with_scores(
    groups: Sequence[TrainingGroup], teacher: Teacher, *, report: Report = lambda *_: None
) -> list[TrainingGroup]:
    """Return the groups with the teacher's score of every document."""
    pairs = [(group.query, document) for group in groups for document in group.documents]
    scores = iter(processes.by_first(lambda: teacher.scores(pairs, report=report)))
    return [
        replace(group, teacher_scores=tuple(next(scores) for _ in group.documents))
        for group in groups
    ]


def require_scores(dataset: Dataset, arguments: TrainArguments) -> None:
    """Check that a loss that needs a teacher has one, or data with a score for every judgement.

    Raises:
        UsageError: it has neither.
    """
    loss = TASKS[arguments.task].losses[arguments.loss]
    if not loss.needs_teacher or arguments.teacher is not None:
        return
    judged = [(query_id, doc_id) for query_id, row in dataset.qrels.items() for doc_id in row]
    scored = sum(doc_id in dataset.teacher_scores.get(id_, {}) for id_, doc_id in judged)
    if scored < len(judged):
        raise UsageError(
            f"the loss {arguments.loss} learns from a teacher's scores: name a cross-encoder with "
            "--teacher, or give every judgement a teacher_score (a column of CSV, TSV, JSON lines "
            f"or parquet; {scored} of {len(judged)} judgements of {dataset.name} have one)"
        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the cache; in memory only, with a warning, if nothing can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        database = str(path)
    except OSError as error:
        logger.warning("the teacher's scores are not kept: %s: %s", path, error.strerror)
        database = ":memory:"
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=_PATIENCE_S)) as cache:
            cache.execute(
                "CREATE TABLE IF NOT EXISTS scores "
                "(pair BLOB PRIMARY KEY, score REAL NOT NULL) WITHOUT ROWID"
            )
            yield cache
    except sqlite3.Error as error:
        raise TrainError(
            f"the teacher's scores in {database} cannot be used: {error}; delete the file and "
            "repeat"
        ) from error


def _cached(cache: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, float]:
    wanted = list(keys)
    scores: dict[bytes, float] = {}
    for start in range(0, len(wanted), _MOST_VARIABLES):
        part = wanted[start : start + _MOST_VARIABLES]
        marks = ", ".join("?" * len(part))
        scores.update(cache.execute(f"SELECT * FROM scores WHERE pair IN ({marks})", part))
    return scores


def _key(pair: Pair) -> bytes:
    return hashlib.sha256(json.dumps(pair).encode()).digest()
