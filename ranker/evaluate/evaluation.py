"""Run rank profiles over judged queries and write the evaluation folder."""

import datetime
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ranker import __version__
from ranker.artifacts.bundle import write_hashes
from ranker.artifacts.manifest import Manifest
from ranker.client.search import Client
from ranker.contract import vespa_names
from ranker.dataset import Dataset
from ranker.errors import EvaluationError, UsageError, require
from ranker.evaluate.artifact import FORMAT, Evaluation, write_latencies, write_run
from ranker.evaluate.figures import GAIN, comparisons, counts, profile_figures, shown_hits
from ranker.evaluate.searching import OnProgress, RankedQuery, search_all
from ranker.files import check_replaceable, new_folder, write_json
from ranker.metrics.measures import DEFAULT, per_query
from ranker.metrics.significance import LEVEL, RESAMPLES

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)


def evaluate(
    dataset: Dataset,
    client: Client,
    *,
    profiles: Sequence[str] | None = None,
    hits: int = 100,
    timeout_s: float | None = None,
    measures: Sequence[str] = DEFAULT,
    out: Path,
    on_progress: OnProgress = lambda *_: None,
    concurrency: int = 1,
    baseline: str | None = None,
) -> Evaluation:
    """Search every judged query with every profile, and write run files and figures.

    Args:
        dataset: the judged queries, and the corpus for the documents to show.
        client: of the endpoint.
        profiles: names of the rank profiles; all but those of the global phase by default.
        hits: number of documents per query.
        timeout_s: timeout of a query on the server, seconds; by default the application's.
        measures: names as `ir_measures` spells them; profiles are compared on the first one.
        out: folder of the evaluation.
        on_progress: called with the number of queries done, and of all.
        concurrency: number of queries sent at the same time; only latencies with 1 are
            comparable.
        baseline: the profile that the others are compared with; by default `bm25` if it is
            among the profiles, else the first one.

    Raises:
        UsageError: the arguments make no sense, or the application lacks a profile.
        DataError: a measure is unknown, or nothing is judged.
        EvaluationError: a query failed, or the endpoint does not serve this collection.
        EndpointError: the endpoint cannot be reached.
        ArtifactError: `out` holds something else.
        MissingExtra: ir_measures or scipy is not installed.
    """
    manifest = client.app.manifest
    if profiles is None:
        profiles = [p.name for p in manifest.profiles if p.phase != "global"]
    arguments = _arguments(
        manifest,
        profiles=list(profiles),
        hits=hits,
        measures=list(measures),
        concurrency=concurrency,
        baseline=baseline,
    )
    # An unknown measure or a missing library is reported before the search, which may take hours.
    per_query(dataset.qrels, {}, measures)
    require("scipy", extra="evaluate")
    check_replaceable(out, Evaluation.MARKER)
    rankings = search_all(
        [dataset.queries[query_id] for query_id in dataset.qrels],
        client,
        profiles=profiles,
        hits=hits,
        timeout_s=timeout_s,
        concurrency=concurrency,
        on_progress=on_progress,
    )
    endpoint = _without_password(client.url)
    _require_same_collection(dataset, rankings, endpoint)
    figures = _figures(dataset, rankings, arguments, manifest, endpoint)
    with new_folder(out, replace_marker=Evaluation.MARKER) as folder:
        for profile in profiles:
            write_run(folder / f"{profile}.run", rankings, profile=profile)
        write_latencies(folder / "latency.csv", rankings)
        write_json(folder / "hits.json", shown_hits(dataset, rankings))
        write_json(folder / Evaluation.MARKER, figures)
        write_hashes(folder)
    return Evaluation.open(out)


def _arguments(
    manifest: Manifest,
    *,
    profiles: list[str],
    hits: int,
    measures: list[str],
    concurrency: int,
    baseline: str | None,
) -> dict[str, Any]:
    """Check the arguments and fill in their defaults."""
    for name, values in (("profiles", profiles), ("measures", measures)):
        if not values or len(set(values)) < len(values):
            raise UsageError(f"expected one or more different {name}, got {values}")
    for profile in profiles:
        manifest.profile(profile)
    for name, value in (("hits", hits), ("concurrency", concurrency)):
        if value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    if baseline is not None and baseline not in profiles:
        raise UsageError(f"the baseline {baseline!r} is not among the profiles {profiles}")
    return {
        "profiles": profiles,
        "hits": hits,
        "measures": measures,
        "concurrency": concurrency,
        "baseline": baseline or (vespa_names.BM25 if vespa_names.BM25 in profiles else profiles[0]),
    }


def _require_same_collection(dataset: Dataset, rankings: Sequence[RankedQuery], url: str) -> None:
    """Raise an error if the endpoint obviously does not serve this collection."""
    doc_ids = [doc_id for ranking in rankings for doc_id, _ in ranking.hits]
    if not doc_ids:
        raise EvaluationError(
            f"none of {len(dataset.qrels)} queries found a document at {url}; "
            "feed the collection first: ranker feed"
        )
    unknown = sum(doc_id not in dataset.documents for doc_id in doc_ids)
    if unknown == len(doc_ids):
        raise EvaluationError(
            f"none of the documents found at {url} is in {dataset.name} (for example "
            f"{doc_ids[0]}); was another collection fed there?"
        )
    if unknown:
        logger.warning("%d of %d hits are not in %s", unknown, len(doc_ids), dataset.name)


def _without_password(url: str) -> str:
    """Remove the password from an address, since evaluations are shared."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _figures(
    dataset: Dataset,
    rankings: Sequence[RankedQuery],
    arguments: dict[str, Any],
    manifest: Manifest,
    endpoint: str,
) -> dict[str, Any]:
    """Return the content of `evaluation.json`."""
    profiles, measures = arguments["profiles"], arguments["measures"]
    by_profile = {
        profile: profile_figures(dataset, rankings, profile=profile, measures=measures)
        for profile in profiles
    }
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "ranker_version": __version__,
        "arguments": arguments,
        "endpoint": endpoint,
        "application": manifest.application,
        "fingerprint": manifest.spec.fingerprint,
        "spec": manifest.spec.to_dict(),
        "model_sha256": manifest.model_sha256,
        "package_version": manifest.ranker_version,
        "recommended_profile": manifest.recommended_profile,
        "profile_definitions": {name: asdict(manifest.profile(name)) for name in profiles},
        "dataset": counts(dataset),
        "gain": GAIN,
        "intervals": {"level": LEVEL, "resamples": RESAMPLES, "seed": 0},
        "baseline": arguments["baseline"],
        "profiles": by_profile,
        "comparisons": comparisons(by_profile, baseline=arguments["baseline"], measure=measures[0]),
    }
