"""The embedded engine in the test's own process."""

from engine_support import put_fields, query_inputs

from ranker.engine.documents.operations import Remove, parse_put
from ranker.engine.http.parameters import merged
from ranker.engine.rank.search import Search
from ranker.engine.storage.index import Index
from ranker.engine.storage.reader import Reader
from ranker.engine.storage.store import Store
from ranker.export.score import Scorer

TYPED = "select * from doc where userQuery()"


class Engine:
    """The parts of the engine without HTTP."""

    def __init__(self, package, folder):
        folder.mkdir()
        self.package = package
        self.encoder = package.encoder()
        self.store = Store(folder / "documents.sqlite", package.manifest)
        reader = Reader(folder / "documents.sqlite")
        self.index = Index(folder / "index", reader, self.store.totals, self.store.forget_later)
        self.scorer = Scorer(package.model, package.spec, threads=1)
        self.search = Search(package.manifest, self.index, reader, self.scorer)

    def put(self, documents, *, without=()):
        operations = []
        for document in documents:
            fields = put_fields(document, self.encoder)
            kept = {name: value for name, value in fields.items() if name not in without}
            operations.append(
                parse_put(
                    f"id:ranker:doc::{document.doc_id}",
                    {"fields": kept},
                    self.package.manifest,
                    condition=None,
                    create=False,
                )
            )
        self._apply(operations)

    def remove(self, *names):
        self._apply([Remove(f"id:ranker:doc::{name}") for name in names])

    def answer(self, yql=TYPED, *, tokens=None, **parameters):
        given = {"yql": yql, **parameters}
        if tokens is not None:
            given |= {k: str(v) for k, v in query_inputs(tokens, self.encoder).items()}
        return self.search.answer(merged({}, given.items()))

    def ids(self, *arguments, **keywords):
        return [
            found.document.values["doc_id"] for found in self.answer(*arguments, **keywords).hits
        ]

    def close(self):
        self.index.close()
        self.store.close()
        self.scorer.close()

    def _apply(self, operations):
        batch = self.store.apply(operations)
        assert batch.outcomes == [None] * len(operations)
        self.index.follow(batch)
