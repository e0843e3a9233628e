"""Answering a search request: first phase, model, page; in this order, on one thread."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ranker.artifacts.calibration import PROBABILITY
from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import LOGIT
from ranker.contract import vespa_names
from ranker.contract.encode import pair_inputs
from ranker.engine.documents.stored_document import StoredDocument, token_ids
from ranker.engine.query.properties import Parameters
from ranker.engine.query.request import DEFAULT, UNRANKED, Request, parse_request
from ranker.engine.rank.groups import HitGroup, Member, find_members, group_members
from ranker.engine.rank.matching import FirstPhase, Matched, first_phase, sorted_rows
from ranker.engine.rank.ranking import Ranked, rerank
from ranker.engine.rank.timer import Timer
from ranker.engine.storage.index import Index, Snapshot
from ranker.engine.storage.reader import Reader
from ranker.export.score import Scorer

__all__ = ["Hit", "Search", "SearchResult"]

logger = logging.getLogger(__name__)

TRACE_INPUTS = 6
"""Trace level from which the trace shows the model's inputs for each hit of the page."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A document on the page of a search result.

    Attributes:
        document: the document.
        relevance: final score.
        match_features: as the profile lists them; None where the profile lists none.
        summary_features: the logit, and the probability of a calibrated model; None where the
            summary class or the profile has none.
    """

    document: StoredDocument
    relevance: float
    match_features: dict[str, float] | None
    summary_features: dict[str, float] | None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The result of a search request.

    Attributes:
        request: the request.
        hits: the hits of the page, best first.
        total: number of documents that match.
        documents: number of documents that were searched.
        query_s, fill_s: seconds for finding and ranking, and for reading the hits.
        groups: the groups that the statement asks for; None where it has no grouping.
        notes: contents of the trace: texts, and objects with the model's inputs.
    """

    request: Request
    hits: list[Hit]
    total: int
    documents: int
    query_s: float
    fill_s: float
    groups: list[HitGroup] | None = None
    notes: list[Any] = field(default_factory=list)


class Search:
    """The search side of the engine; thread safe.

    Args:
        manifest: the application.
        index: finds candidates.
        reader: reads documents.
        scorer: the model.
    """

    def __init__(self, manifest: Manifest, index: Index, reader: Reader, scorer: Scorer) -> None:
        self.manifest = manifest
        self._index = index
        self._reader = reader
        self._scorer = scorer

    def documents(self) -> int:
        """Return the number of documents."""
        return self._index.documents

    def answer(self, parameters: Parameters, *, start: float | None = None) -> SearchResult:
        """Answer a request.

        Args:
            parameters: flat, under their full names.
            start: when the request arrived (`time.perf_counter`); now by default.

        Raises:
            QueryError: the request cannot be answered, or not in time.
        """
        request = parse_request(parameters, self.manifest)
        timer = Timer(request.timeout_s, start=start)
        # In Vespa, a timeout in the statement itself is known only once the search has begun.
        timer.check(in_cluster=request.statement.timeout_s is not None)
        notes: list[Any] = []
        snapshot = self._index.snapshot()
        first = self._first_phase(request, snapshot, timer)
        tree, grouping = request.statement.tree, request.statement.grouping
        assert tree is not None
        members: list[Member] = []
        if grouping:
            members = find_members(tree, grouping, snapshot, self._reader, timer)
        ranked = self._ranked(request, _with_members(first, members), timer, notes)
        page = ranked[request.offset : request.offset + request.hits]
        if request.statement.order:
            page = ranked[: len(first.matched)]
        query_s = timer.elapsed_s
        hits = self._fill(request, page, timer)
        if request.trace_level >= TRACE_INPUTS and request.profile.needs_tokens:
            notes += self._model_inputs(request, page)
        if request.profile.name == DEFAULT.name:
            notes.append("no rank profile is named: ranked by bm25(contents)")
        return SearchResult(
            request=request,
            hits=hits,
            total=first.total,
            documents=snapshot.totals.documents,
            query_s=query_s,
            fill_s=timer.elapsed_s - query_s,
            groups=group_members(members, ranked, grouping) if grouping else None,
            notes=notes,
        )

    def _first_phase(self, request: Request, snapshot: Snapshot, timer: Timer) -> FirstPhase:
        tree = request.statement.tree
        assert tree is not None
        end = request.offset + request.hits
        if request.statement.order:
            page = slice(request.offset, end)
            order = request.statement.order
            return sorted_rows(tree, snapshot, self._reader, order, page=page, timer=timer)
        reranked = 0 if request.profile.phase == "first" else request.profile.rerank_count
        needed = max(end, reranked)
        return first_phase(tree, snapshot, self._reader, needed=needed, timer=timer)

    def _ranked(
        self, request: Request, first: FirstPhase, timer: Timer, notes: list[Any]
    ) -> list[Ranked]:
        profile = request.profile
        if request.statement.order:
            # A sorted result shows the scores of the first phase; nothing is reranked for it.
            bm25 = [matched.contents for matched in first.matched]
            scores = (
                [profile.score(b, math.nan) for b in bm25] if profile.phase == "first" else bm25
            )
            return [Ranked(m, score) for m, score in zip(first.matched, scores, strict=True)]

        def logits(chunk: Sequence[Matched]) -> list[float]:
            return self._logits(request.query_ids, chunk, notes)

        count = profile.rerank_count if profile.needs_tokens or profile.phase != "first" else 0
        return rerank(first.matched, profile, count, logits, timer)

    def _logits(
        self, query_ids: list[int], chunk: Sequence[Matched], notes: list[Any]
    ) -> list[float]:
        tokens = self._reader.tokens([matched.row for matched in chunk])
        ids = [token_ids(tokens.get(matched.row), self.manifest.spec) for matched in chunk]
        empty = sum(not document for document in ids)
        if empty:
            notes.append(
                f"{empty} of {len(ids)} reranked documents have no {vespa_names.DOC_TOKEN_IDS}; "
                f"they were scored as empty texts, and their "
                f"attribute({vespa_names.TOKEN_FINGERPRINT}) is 0"
            )
            logger.warning("%s", notes[-1])
        return [float(logit) for logit in self._scorer.logits(query_ids, ids)]

    def _fill(self, request: Request, page: Sequence[Ranked], timer: Timer) -> list[Hit]:
        timer.check()
        documents = self._reader.documents([ranked.matched.row for ranked in page])
        summaries = request.summary == "default" and request.profile.needs_tokens
        # The profiles of the second phase have summary-features, for the default class.
        logit_of = self._page_logits(request, page) if summaries else {}
        hits = []
        for ranked in page:
            row = ranked.matched.row
            if row not in documents:  # removed since it was ranked
                continue
            features = _match_features(ranked.matched, request)
            shown = self._summary_features(logit_of[row]) if row in logit_of else None
            hits.append(Hit(documents[row], ranked.relevance, features, shown))
        return hits

    def _summary_features(self, logit: float) -> dict[str, float]:
        calibration = self.manifest.calibration
        if calibration is None:
            return {LOGIT: logit}
        return {LOGIT: logit, PROBABILITY: calibration.probability(logit)}

    def _model_inputs(self, request: Request, page: Sequence[Ranked]) -> list[dict[str, Any]]:
        """Return each hit's input ids, mask and segment ids, padded to the full length."""
        spec, rows = self.manifest.spec, [ranked.matched.row for ranked in page]
        tokens, documents = self._reader.tokens(rows), self._reader.documents(rows)
        rows = [row for row in rows if row in documents]
        ids = [token_ids(tokens.get(row), spec) for row in rows]
        inputs = pair_inputs(spec, [request.query_ids] * len(rows), ids, length=spec.length)
        return [
            {
                "document": documents[row].document_id,
                **{name: inputs[name][position].tolist() for name in inputs},
            }
            for position, row in enumerate(rows)
        ]

    def _page_logits(self, request: Request, page: Sequence[Ranked]) -> dict[int, float]:
        """Return the logits of a page's hits; those of hits not reranked are computed here."""
        if request.profile.phase != "second":
            return {}
        known = {r.matched.row: r.logit for r in page if r.logit is not None}
        rest = [r.matched for r in page if r.matched.row not in known]
        logits = self._logits(request.query_ids, rest, []) if rest else []
        return known | {m.row: logit for m, logit in zip(rest, logits, strict=True)}


def _with_members(first: FirstPhase, members: Sequence[Member]) -> FirstPhase:
    """Append the documents of groups to the best ones, so that they get their final scores too."""
    known = {matched.row for matched in first.matched}
    rest = [member.matched for member in members if member.matched.row not in known]
    return FirstPhase([*first.matched, *rest], first.total)


def _match_features(matched: Matched, request: Request) -> dict[str, float] | None:
    if request.profile in (DEFAULT, UNRANKED):
        return None
    features = {
        f"bm25({vespa_names.CONTENTS})": matched.contents,
        f"bm25({vespa_names.TITLE})": matched.title,
    }
    if request.profile.needs_tokens:
        features[f"attribute({vespa_names.TOKEN_FINGERPRINT})"] = float(matched.token_fingerprint)
    return features
