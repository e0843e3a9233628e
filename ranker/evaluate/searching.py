"""Search every judged query with every profile, and account for each search that failed."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from ranker.client.search import Client, Hit, Result
from ranker.errors import EndpointError, EvaluationError, ResponseError, UsageError
from ranker.metrics.measures import ordered
from ranker.records import Query

__all__ = ["OnProgress", "RankedQuery", "search_all"]

logger = logging.getLogger(__name__)

OnProgress = Callable[[int, int], object]
"""Called with the number of queries done, and of all."""

Search = Callable[..., Result]
"""`Client.search` with all options but `profile` given."""

MOST_FAILURES = 20
"""Failed searches after which the rest is not tried, which could take hours with timeouts."""
SHOWN_FAILURES = 5
LARGEST_SCORE = 3.4e38
"""trec_eval holds scores as float32."""


@dataclass(frozen=True)
class RankedQuery:
    """The ranking of one query by one profile.

    Attributes:
        query_id: the query.
        profile: the rank profile.
        hits: document id and score, best first, in the order that is measured.
        latency_ms: as measured by the client.
        server_ms: as reported by the server, if it does.
    """

    query_id: str
    profile: str
    hits: tuple[tuple[str, float], ...]
    latency_ms: float
    server_ms: float | None


@dataclass(frozen=True)
class _Failure:
    query_id: str
    profile: str
    reason: str

    def __str__(self) -> str:
        return f"{self.query_id} ({self.profile}): {self.reason}"


def search_all(
    queries: Sequence[Query],
    client: Client,
    *,
    profiles: Sequence[str],
    hits: int,
    timeout_s: float | None = None,
    concurrency: int,
    on_progress: OnProgress,
) -> list[RankedQuery]:
    """Rank all queries with all profiles.

    Each query is searched with all profiles before the next one, so that noise of the machine
    affects them all, and the profiles take turns, so that none always profits from another's
    caches.

    Raises:
        EvaluationError: a search failed, or did not give a ranking.
        EndpointError: the server cannot be reached.
    """
    # The summary class with ids only, or the default one if the schema has none.
    summary = client.app.manifest.ids_summary
    search = partial(client.search, hits=hits, timeout_s=timeout_s, summary=summary)
    _warm_up(search, queries[0], profiles)

    def search_one(at: int) -> list[RankedQuery | _Failure]:
        turn = at % len(profiles)
        order = [*profiles[turn:], *profiles[:turn]]
        return [_try(search, queries[at], profile) for profile in order]

    rankings: list[RankedQuery] = []
    failures: list[_Failure] = []
    for done, row in enumerate(_in_order(search_one, len(queries), concurrency), start=1):
        rankings += [result for result in row if isinstance(result, RankedQuery)]
        failures += [result for result in row if isinstance(result, _Failure)]
        on_progress(done, len(queries))
        if len(failures) >= MOST_FAILURES:
            raise _failed(failures, done, len(queries))
    if failures:
        raise _failed(failures, len(queries), len(queries))
    return rankings


def _in_order(
    search_one: Callable[[int], list[RankedQuery | _Failure]], count: int, concurrency: int
) -> Iterator[list[RankedQuery | _Failure]]:
    """Yield results in the order of the queries, few of them ahead, so that an error stops all."""
    if concurrency == 1:
        yield from map(search_one, range(count))
        return
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="evaluate")
    # Two for each thread keep all of them busy, and few searches are lost when one ends it all.
    running: deque[Future[list[RankedQuery | _Failure]]] = deque()
    try:
        for at in range(count):
            running.append(pool.submit(search_one, at))
            if len(running) == 2 * concurrency:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _warm_up(search: Search, query: Query, profiles: Sequence[str]) -> None:
    """Search once with each profile, uncounted: the first search loads and compiles."""
    for profile in profiles:
        try:
            search(query.text, profile=profile)
        except (ResponseError, UsageError) as error:
            # It happens again when the query is counted, and is accounted for there.
            logger.info("warm-up of profile %s failed: %s", profile, error)


def _try(search: Search, query: Query, profile: str) -> RankedQuery | _Failure:
    try:
        result = search(query.text, profile=profile)
        return RankedQuery(
            query_id=query.query_id,
            profile=profile,
            hits=_ranked(query.query_id, result.hits),
            latency_ms=result.latency_s * 1000,
            server_ms=None if result.server_s is None else result.server_s * 1000,
        )
    except (EndpointError, EvaluationError, UsageError) as error:
        failure = _Failure(query.query_id, profile, " ".join(str(error).split()))
        logger.info("query %s", failure)  # the error at the end names the first of them
        return failure


def _ranked(query_id: str, hits: Sequence[Hit]) -> tuple[tuple[str, float], ...]:
    """Order hits as they are measured, regardless of how the server orders equal scores."""
    scores = {hit.doc_id: float(hit.relevance) for hit in hits}
    if len(scores) < len(hits):
        raise EvaluationError(
            f"expected every document once, got {len(hits)} hits of {len(scores)} documents"
        )
    for doc_id, score in scores.items():
        if not -LARGEST_SCORE < score < LARGEST_SCORE:  # also true for NaN
            raise EvaluationError(f"document {doc_id} has the score {score}")
    return tuple(ordered(query_id, scores))


def _failed(failures: Sequence[_Failure], done: int, queries: int) -> EvaluationError:
    shown = "; ".join(map(str, failures[:SHOWN_FAILURES]))
    more = len(failures) - SHOWN_FAILURES
    rest = f"; and {more} more" if more > 0 else ""
    failed = len({failure.query_id for failure in failures})
    stopped = f", stopped after {done}" if done < queries else ""
    return EvaluationError(
        f"{failed} of {queries} queries failed{stopped}; no figures, nothing was written: "
        f"{shown}{rest}"
    )
