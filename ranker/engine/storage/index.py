"""The derived index: tantivy over terms that Python has already analysed.

SQLite holds the truth, and the index can be rebuilt from it at any time.  Documents reach tantivy
on a thread of its own, so that writing does not wait for it; a query waits until the index has
everything acknowledged before it.
"""

import json
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.contract import vespa_names
from ranker.contract.fields import DOCUMENT_FIELDS
from ranker.engine.documents.stored_document import StoredDocument
from ranker.engine.errors import QueryError
from ranker.engine.query.tree import (
    And,
    AndNot,
    Everything,
    Node,
    Nothing,
    Or,
    Phrase,
    Range,
    Rank,
    Strings,
)
from ranker.engine.storage.database import ATTRIBUTES
from ranker.engine.storage.reader import Reader
from ranker.engine.storage.store import Batch, RowChange, Totals
from ranker.errors import require
from ranker.files import write_json

__all__ = ["Index", "Snapshot"]

logger = logging.getLogger(__name__)

FORMAT = 2
"""Format of the index; an index of another format is rebuilt."""

HEAP_BYTES = 50_000_000
COMMIT_AFTER = 10_000
"""Changes after which tantivy commits unasked, so that a query waits for few changes."""

MOST_PENDING = 20_000
"""Changes that may wait for tantivy in memory; beyond that, writing waits."""

IDLE_S = 0.3
"""Quiet seconds after which the last changes of a feed are committed."""


@dataclass(frozen=True)
class Snapshot:
    """The index at one moment.

    Attributes:
        totals: sums over its documents.
    """

    totals: Totals
    _searcher: Any
    _schema: Any

    def search(self, tree: Node, limit: int) -> tuple[list[tuple[float, int]], int]:
        """Find the best documents by tantivy's score, which rounds lengths, and count all matches.

        Returns:
            (score, row) pairs, best first; number of all matches.
        """
        query = _Queries(self._schema).of(tree)
        result = self._searcher.search(query, limit=max(limit, 1))
        rows = self._searcher.fast_field_values("row", [address for _, address in result.hits])
        scores = [score for score, _ in result.hits]
        return list(zip(scores, map(int, rows), strict=True))[:limit], int(result.count)

    def frequencies(self, field: str, term: str) -> tuple[int, int]:
        """Count the live documents with a term, and all that tantivy counts for its scores."""
        everything = int(self._searcher.doc_freq(field, term))
        if not everything:
            return 0, 0
        query = _tantivy().Query.term_query(self._schema, field, term)
        return int(self._searcher.search(query, limit=1).count), everything


class Index:
    """The index of a data folder.

    Args:
        folder: tantivy's folder, made or rebuilt as needed.
        reader: the documents.
        totals: of the documents as they are now.
        followed: called after each commit with the number of its last change.
    """

    def __init__(
        self, folder: Path, reader: Reader, totals: Totals, followed: Callable[[int], None]
    ) -> None:
        self._folder = folder
        self._reader = reader
        self._followed = followed
        self._pending: deque[Batch] = deque()
        self._pending_changes = 0
        self._newest = totals
        self._waiting = threading.Condition()
        self._writing = threading.RLock()
        self._closing = False
        self._writer: Any = None
        self._uncommitted = 0
        self._applied = totals
        self._open()
        self._thread = threading.Thread(target=self._run, name="index", daemon=True)
        self._thread.start()

    def follow(self, batch: Batch) -> None:
        """Take the changes of a transaction; wait only while far too many are pending."""
        if not batch.changes:
            return
        with self._waiting:
            self._waiting.wait_for(lambda: self._pending_changes < MOST_PENDING or self._closing)
            self._pending.append(batch)
            self._pending_changes += len(batch.changes)
            self._newest = batch.totals
            self._waiting.notify_all()

    @property
    def documents(self) -> int:
        """The number of documents, pending changes included."""
        return self._newest.documents

    def snapshot(self) -> Snapshot:
        """Return the index with everything that has been acknowledged so far.

        Raises:
            QueryError: code 19 or 18, the index cannot be written; the documents are safe.
        """
        with self._writing:
            try:
                if self._writer is None:
                    self._open()
                while self._drain():
                    pass
                if self._uncommitted:
                    self._commit()
            except (ValueError, OSError) as error:  # tantivy raises ValueError for all its errors
                self._writer = None
                code = 19 if _is_full(error) else 18
                raise QueryError(code, f"the index could not be written: {error}") from error
            return Snapshot(self._applied, self._index.searcher(), self._schema)

    def close(self) -> None:
        """Commit the pending changes and stop."""
        with self._waiting:
            self._closing = True
            self._waiting.notify_all()
        self._thread.join()
        try:
            self.snapshot()
        except QueryError as error:  # the index catches up at the next start
            logger.warning("on closing: %s", error.message)
        self._writer = None

    def _run(self) -> None:
        while not self._closing:
            with self._waiting:
                self._waiting.wait_for(lambda: self._pending or self._closing, timeout=IDLE_S)
            with self._writing:
                try:
                    self._step()
                except (ValueError, OSError) as error:
                    # The next query opens the index again, and reports it if that fails.
                    logger.error("the index could not be written: %s", error)
                    self._writer = None
            if self._writer is None:
                time.sleep(IDLE_S)

    def _step(self) -> None:
        """Take one batch; commit if there are many changes or none are left."""
        if self._writer is None:
            return
        busy = self._drain()
        if self._uncommitted >= COMMIT_AFTER or (self._uncommitted and not busy):
            self._commit()

    def _drain(self) -> bool:
        """Give one pending batch to tantivy; return True if there was one."""
        with self._waiting:
            if not self._pending:
                return False
            batch = self._pending.popleft()
            self._pending_changes -= len(batch.changes)
            self._waiting.notify_all()
        self._write(batch.changes)
        self._applied = batch.totals
        return True

    def _write(self, changes: Iterable[RowChange]) -> None:
        for change in changes:
            # A fresh row has nothing to delete, which saves tantivy a lookup for each document.
            if not change.fresh or change.number <= self._caught_up:
                self._writer.delete_documents_by_term("row", change.row)
            if change.document:
                self._writer.add_document(_indexed(change.row, change.document))
            self._uncommitted += 1

    def _commit(self) -> None:
        self._writer.commit()
        self._index.reload()
        self._uncommitted = 0
        number = self._applied.last_change
        try:
            write_json(self._state, {"format": FORMAT, "change": number})
        except OSError as error:  # the file only saves work at the next start
            logger.warning("%s was not written: %s", self._state, error)
            return
        self._followed(number)

    @property
    def _state(self) -> Path:
        return self._folder / "ranker.json"

    def _open(self) -> None:
        """Open the index and catch up with the documents, or build it from them."""
        self._writer = None
        try:
            self._start(self._known_change())
        except (ValueError, OSError) as error:
            if _is_full(error):
                raise
            logger.warning("the index %s is rebuilt: %s", self._folder, error)
            self._start(0)

    def _start(self, known: int) -> None:
        tantivy = _tantivy()
        self._schema = _schema()
        if not known:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._index = tantivy.Index(self._schema, path=str(self._folder))
        # Each commit reloads, so that a snapshot and the totals are of the same moment.
        self._index.config_reader(reload_policy="manual")
        analyzer = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
        self._index.register_tokenizer("terms", analyzer)
        self._writer = self._index.writer(heap_size=HEAP_BYTES, num_threads=1)
        self._catch_up(known)

    def _catch_up(self, known: int) -> None:
        """Take every change after a number from the documents; pending changes are among them."""
        with self._waiting:
            self._pending.clear()
            self._pending_changes = 0
            self._applied = self._newest
            self._waiting.notify_all()
        self._uncommitted = 0
        # A transaction may be in the documents before its batch arrives here; the batch must then
        # not add its rows a second time.
        self._caught_up = self._reader.last_change()
        self._write(self._reader.changes(known))
        if self._uncommitted:
            logger.info("the index took %d changes from the documents", self._uncommitted)
            self._commit()

    def _known_change(self) -> int:
        """Return the number of the last change in the index; 0 if the index must be rebuilt."""
        try:
            state = json.loads(self._state.read_text())
        except (OSError, ValueError):
            return 0
        known = int(state["change"]) if state.get("format") == FORMAT else 0
        return known if known <= self._newest.last_change else 0


class _Queries:
    """Turns query trees into tantivy queries that score only what counts in the first phase.

    tantivy has no types, so its schema and its queries are `Any`.
    """

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._query = _tantivy().Query

    def of(self, node: Node) -> Any:
        """Return the query of a node."""
        match node:
            case Phrase():
                return self._phrase(node)
            case Range(field, low, high):
                kind = _tantivy().FieldType.Integer
                return self._unscored(
                    self._query.range_query(self._schema, field, kind, low, high)
                    if low is not None or high is not None
                    else self._query.exists_query(field)
                )
            case Strings(field, values):
                return self._unscored(
                    self._query.term_set_query(self._schema, field, sorted(values))
                )
            case Everything():
                return self._unscored(self._query.all_query())
            case Nothing():
                return self._query.empty_query()
            case And(children):
                return self._boolean(must=children)
            case Or(children):
                return self._boolean(should=children)
            case AndNot(positive, negatives):
                return self._boolean(must=(positive,), must_not=negatives)
            case Rank(first, others):
                return self._boolean(must=(first,), should=others)

    def _phrase(self, node: Phrase) -> Any:
        if len(node.terms) == 1:
            query = self._query.term_query(self._schema, node.field, node.terms[0])
        else:
            query = self._query.phrase_query(self._schema, node.field, list(node.terms))
        counts = node.ranked and node.field == vespa_names.CONTENTS
        return query if counts else self._unscored(query)

    def _unscored(self, query: Any) -> Any:
        return self._query.const_score_query(query, 0.0)

    def _boolean(
        self,
        must: Sequence[Node] = (),
        should: Sequence[Node] = (),
        must_not: Sequence[Node] = (),
    ) -> Any:
        occur = _tantivy().Occur
        return self._query.boolean_query(
            [(occur.Must, self.of(node)) for node in must]
            + [(occur.Should, self.of(node)) for node in should]
            + [(occur.MustNot, self.of(node)) for node in must_not]
        )


def _is_full(error: Exception) -> bool:
    """Say whether the disk is full, or a limit on the size of files was reached."""
    return any(words in str(error) for words in ("No space", "File too large", "os error 28"))


def _tantivy() -> Any:
    # Not typed: tantivy's own hints lack some of what it has, such as the count of a result.
    return require("tantivy", extra="engine")


def _schema() -> Any:
    builder = _tantivy().SchemaBuilder()
    builder.add_integer_field("row", indexed=True, fast=True)
    builder.add_text_field(vespa_names.TITLE, tokenizer_name="terms", index_option="position")
    builder.add_text_field(vespa_names.CONTENTS, tokenizer_name="terms", index_option="position")
    for name in ATTRIBUTES:
        if DOCUMENT_FIELDS[name].vespa_type == "string":
            builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
        else:
            builder.add_integer_field(name, indexed=True, fast=True)
    return builder.build()


def _indexed(row: int, stored: StoredDocument) -> Any:
    document = _tantivy().Document()
    document.add_integer("row", row)
    if stored.title_terms:
        document.add_text(vespa_names.TITLE, stored.title_terms)
    document.add_text(vespa_names.CONTENTS, stored.title_terms + stored.text_terms)
    for name in ATTRIBUTES:
        value = stored.values[name]
        if isinstance(value, str):
            document.add_text(name, value.lower())
        elif value is not None:
            document.add_integer(name, value)
    return document
