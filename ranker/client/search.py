"""Queries: a request as a value, a client that sends it, and typed hits.

Only the question is tokenized here; documents brought their token ids when they were fed.
"""

import math
import time
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.artifacts.calibration import PROBABILITY
from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile
from ranker.client.endpoint import Endpoint, Http, Response
from ranker.contract import vespa_names
from ranker.contract.document_id import DocumentId
from ranker.contract.encode import Encoder, sanitize_text
from ranker.contract.storage import FLOAT
from ranker.errors import DataError, ResponseError, SpecMismatch, UsageError
from ranker.package.application import Package

__all__ = ["App", "Client", "Hit", "Result", "query_body"]

QUERY_TEXT = "query_text"
"""Parameter with the raw question, which YQL refers to as @query_text."""

CANDIDATES = 10
"""weakAnd keeps this many times the documents that will be reranked.  It selects by idf without
term frequency, so a narrow selection would miss some of the best by BM25:
https://docs.vespa.ai/en/using-wand-with-vespa.html"""

_WORD_CATEGORIES = {"Lu", "Ll", "Lt", "Lm", "Lo", "Nd", "So"}

LEAST_TIMEOUT_S, MOST_TIMEOUT_S = 0.001, 86_400.0
"""Vespa reads a timeout in milliseconds, without exponents; a day is longer than any query."""

GRACE_S = 5.0
"""Seconds that the client waits beyond the timeout that it gives to the server."""


@dataclass(frozen=True)
class App:
    """An application as a client needs it: its manifest and its tokenizer.

    Attributes:
        manifest: of the model that answers queries.
        encoder: turns texts into token ids for that model.
        others: models of the same schema with token ids of their own, which a document must also
            bring.
    """

    manifest: Manifest
    encoder: Encoder
    others: tuple["App", ...] = ()

    @classmethod
    def open(cls, path: Path | str) -> "App":
        """Open the application of a package folder, without reading its model.

        Args:
            path: the folder, or the record of one model in it (`Package.open`).

        Raises:
            ArtifactError: the folder is not an application package, it holds several models, or
                a file was changed.
        """
        package = Package.open(Path(path), model=False)
        others = {
            other.manifest.token_field: cls(other.manifest, other.encoder())
            for other in ([] if package.own else Package.every(package.path, model=False))
            if other.manifest.schema == package.manifest.schema
        }
        others.pop(package.manifest.token_field, None)
        return cls(package.manifest, package.encoder(), tuple(others.values()))

    @classmethod
    def of_engine(cls, url: str) -> "App":
        """Fetch the application that an embedded engine serves.

        Raises:
            EndpointError: nothing answers, or it is not an embedded engine.
        """
        with Http(Endpoint.of(url)) as http:
            manifest = _required(http, "/ranker/v1/manifest").json()
            tokenizer = _required(http, "/ranker/v1/tokenizer").body.decode("utf-8")
        known = Manifest.from_dict(manifest, where=f"{url}/ranker/v1/manifest")
        return cls(known, Encoder(known.spec, tokenizer))


@dataclass(frozen=True)
class Hit:
    """One document of a result.

    Attributes:
        doc_id: the document's own id.
        relevance: the score that ranks it.
        fields: the summary's fields.
        match_features: features that the rank profile returns, such as `bm25(contents)`.
        probability: that it is judged relevant, of a calibrated model; None where the rank profile
            or the summary class does not return it.
    """

    doc_id: str
    relevance: float
    fields: dict[str, Any]
    match_features: dict[str, Any]
    probability: float | None


@dataclass(frozen=True)
class Result:
    """The result of a query.

    Attributes:
        hits: best first.
        total_count: documents that matched; an estimate on Vespa, where weakAnd skips some.
        latency_s: seconds from the call to the parsed response.
        server_s: seconds that the server reports, or None.
    """

    hits: tuple[Hit, ...]
    total_count: int
    latency_s: float
    server_s: float | None


def query_body(
    text: str,
    app: App,
    *,
    profile: str | None = None,
    hits: int = 10,
    offset: int = 0,
    summary: str | None = None,
    timeout_s: float | None = None,
    rerank_count: int | None = None,
) -> dict[str, Any]:
    """Build the body of a search request.

    Args:
        text: the question; every character in it is text, none is query syntax.
        app: the application.
        profile: a rank profile of the application; its recommended one by default.
        hits: hits on the page.
        offset: hits before the page.
        summary: summary class; the schema's default one by default.
        timeout_s: longest time that the server may take; the application's own by default.
        rerank_count: documents to rerank; the profile's own number by default.

    Raises:
        UsageError: the question has no word, or an option is impossible.
    """
    chosen = app.manifest.profile(app.manifest.recommended_profile if profile is None else profile)
    _check_options(hits, offset, timeout_s)
    clean = sanitize_text(text)
    question = _question(clean)
    candidates = CANDIDATES * max(hits + offset, rerank_count or chosen.rerank_count)
    body: dict[str, Any] = {
        # The grammar `tokenize` has no syntax: Vespa's own parser turns `-a "b" (c:d)` into
        # WEAKAND(a b c d), checked with its Java code.
        "yql": (
            f"select * from {app.manifest.schema} where "
            + " or ".join(
                f'({{targetHits: {candidates}, grammar: "tokenize", '
                f'defaultIndex: "{field}"}}userInput(@{QUERY_TEXT}))'
                for field in app.manifest.match_fields
            )
        ),
        QUERY_TEXT: question,
        "language": "en",
        "ranking.profile": chosen.name,
        "hits": hits,
        "offset": offset,
        "timeout": f"{round(timeout_s or app.manifest.timeout_s, 3):.9g}s",
        "presentation.timing": True,
    }
    if summary is not None:
        body["presentation.summary"] = summary
    return {
        **body,
        **_rerank_count(chosen, rerank_count),
        **_tokens(clean, app, chosen),
    }


class Client:
    """Sends queries to one endpoint: a Vespa container or the embedded engine.  Thread safe.

    Args:
        url: where the search API is, as `http://localhost:8080`.
        app: the application that is deployed there, or its package's folder; an embedded engine
            hands out its own where this is None.
        cert: PEM file with a client certificate, for Vespa Cloud.
        key: PEM file with its key.

    Raises:
        UsageError: not a URL, or a certificate that cannot be used.
        ArtifactError: the folder is not an application package, or a file in it was changed.
        EndpointError: there is no `app`, and no embedded engine answers.
    """

    def __init__(
        self,
        url: str,
        app: App | Path | str | None = None,
        *,
        cert: Path | None = None,
        key: Path | None = None,
    ) -> None:
        if app is None:
            app = App.of_engine(url)
        self.app = app if isinstance(app, App) else App.open(app)
        self.url = url.rstrip("/")
        self._http = Http(Endpoint.of(url, cert=cert, key=key))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def search(
        self,
        text: str,
        *,
        profile: str | None = None,
        hits: int = 10,
        offset: int = 0,
        summary: str | None = None,
        timeout_s: float | None = None,
        rerank_count: int | None = None,
        min_score: float | None = None,
    ) -> Result:
        """Ask a question; the arguments are those of `query_body`, and `min_score`.

        With `min_score` (0 to 1), only the hits of the page whose probability of relevance is at
        least that are kept.

        Raises:
            UsageError: the question has no word, an option is impossible, or `min_score` is given
                for a rank profile or a summary class without probabilities.
            EndpointError: nothing answers, or not in time.
            ResponseError: the server answered with an error, searched only some of the documents,
                or returned no probabilities for `min_score`.
            SpecMismatch: a hit was fed under another token contract, or without tokens.
        """
        start = time.perf_counter()
        body = query_body(
            text,
            self.app,
            profile=profile,
            hits=hits,
            offset=offset,
            summary=summary,
            timeout_s=timeout_s,
            rerank_count=rerank_count,
        )
        chosen = self.app.manifest.profile(body["ranking.profile"])
        if min_score is not None:
            _require_probability(self.app.manifest, chosen, summary, min_score)
        longest = (timeout_s or self.app.manifest.timeout_s) + GRACE_S
        response = self._http.post_json("/search/", body, timeout_s=longest)
        result = _checked(response)
        children = result["root"].get("children", ())
        page = tuple(_hit(child, response, self.app.manifest) for child in children)
        if chosen.needs_tokens:
            _check_tokens(page, self.app, self._http.url)
        if min_score is not None:
            page = _at_least(page, min_score, chosen, response)
        return Result(
            hits=page,
            total_count=int(result["root"].get("fields", {}).get("totalCount", 0)),
            latency_s=time.perf_counter() - start,
            server_s=result.get("timing", {}).get("searchtime"),
        )


def _check_options(hits: int, offset: int, timeout_s: float | None) -> None:
    if hits < 0 or offset < 0:
        raise UsageError(f"hits and offset must be 0 or more, got {hits} and {offset}")
    if timeout_s is not None and not LEAST_TIMEOUT_S <= timeout_s <= MOST_TIMEOUT_S:
        raise UsageError(
            f"timeout_s must be from {LEAST_TIMEOUT_S:g} to {MOST_TIMEOUT_S:g} seconds, "
            f"got {timeout_s:g}"
        )


def _require_probability(
    manifest: Manifest, profile: Profile, summary: str | None, min_score: float
) -> None:
    """Refuse a minimum probability where hits cannot have one."""
    if not 0 <= min_score <= 1:
        raise UsageError(f"min_score is a probability, expected 0 to 1, got {min_score:g}")
    if manifest.calibration is None:
        raise UsageError(
            f"min_score needs a calibrated model; the one of application {manifest.name} is not: "
            f"{manifest.uncalibrated}"
        )
    if profile.phase != "second" or not profile.needs_tokens:
        able = [p.name for p in manifest.profiles if p.phase == "second" and p.needs_tokens]
        raise UsageError(
            "min_score needs a rank profile with the model in its second phase "
            f"({', '.join(able)}), got {profile.name}"
        )
    if summary not in (None, "default"):
        raise UsageError(
            f"min_score needs the default summary class, which has probabilities, got {summary}"
        )


def _at_least(
    hits: tuple[Hit, ...], min_score: float, profile: Profile, response: Response
) -> tuple[Hit, ...]:
    """Keep the hits with a minimum probability.

    Raises:
        ResponseError: a hit has none.
    """
    if missing := [hit.doc_id for hit in hits if hit.probability is None]:
        raise ResponseError(
            f"document {missing[0]!r} from {response.url} has no probability: expected the line "
            f"`summary-features: {PROBABILITY}` in the rank profile {profile.name} that is "
            "deployed there; add it, or deploy the package again",
            status=response.status,
        )
    return tuple(h for h in hits if h.probability is not None and h.probability >= min_score)


def _question(text: str) -> str:
    """Write a question so that Vespa's grammar `tokenize` splits it into words as the index does.

    Checked over all of Unicode with Vespa's own parser: without NFKC it drops letters such as
    `½`, and it joins the words around an apostrophe where the index has two.

    Raises:
        UsageError: nothing in it is a word for Vespa, which would then find nothing.
    """
    question = unicodedata.normalize("NFKC", text).replace("'", " ")
    # Vespa's tokens are runs of letters and digits; a symbol such as an emoji is one by itself.
    if not any(unicodedata.category(character) in _WORD_CATEGORIES for character in question):
        raise UsageError(f"the question holds no word to search for: {text[:80]!r}")
    return question


def _rerank_count(profile: Profile, count: int | None) -> dict[str, int]:
    if count is None:
        return {}
    if profile.phase == "first":
        raise UsageError(f"rerank_count has no effect: rank profile {profile.name} reranks nothing")
    if count < 1:
        raise UsageError(f"rerank_count must be 1 or more, got {count}")
    return {f"ranking.{profile.phase}Phase.rerankCount": count}


def _tokens(question: str, app: App, profile: Profile) -> dict[str, Any]:
    if not profile.needs_tokens:
        return {}
    spec = app.manifest.spec
    ids = app.encoder.query_ids(question)
    if not ids:
        raise UsageError(f"the tokenizer finds no token in the question: {question[:80]!r}")
    return {
        f"input.query({vespa_names.QUERY_TOKEN_IDS})": FLOAT.pack(ids, spec.query_tokens),
        f"input.query({vespa_names.QUERY_TOKEN_FINGERPRINT})": spec.fingerprint_number,
    }


def _required(http: Http, path: str) -> Response:
    response = http.get(path)
    if response.status != 200:
        raise ResponseError(
            f"{http.url} is not an embedded engine (HTTP {response.status} for {path}); "
            "for a Vespa endpoint, name the application package",
            status=response.status,
        )
    return response


def _checked(response: Response) -> dict[str, Any]:
    """Return the parsed body of a search that succeeded on all documents."""
    body = response.json()
    root = body.get("root") if isinstance(body, dict) else None
    if not isinstance(root, dict):
        raise ResponseError(
            f"expected a search result from {response.url}, got HTTP {response.status} with "
            f"{response.excerpt()!r}",
            status=response.status,
        )
    for error in root.get("errors", ()):
        code = error.get("code")
        words = ": ".join(str(error[part]) for part in ("summary", "message") if error.get(part))
        raise ResponseError(
            f"{response.url} answered HTTP {response.status} with error {code}: "
            + " ".join(words.split()),
            status=response.status,
            code=code if isinstance(code, int) else None,
        )
    if response.status != 200:
        raise ResponseError(
            f"{response.url} refused the query: HTTP {response.status}, {response.excerpt()!r}",
            status=response.status,
        )
    _check_coverage(response, root.get("coverage", {}))
    return {**body, "root": root}


def _check_coverage(response: Response, coverage: Mapping[str, Any]) -> None:
    """Refuse a result over some of the documents, which would be scored as a bad ranking."""
    degraded = coverage.get("degraded")
    if coverage.get("full", True) and not degraded:
        return
    reasons = ", ".join(name for name, yes in (degraded or {}).items() if yes) or "unknown"
    raise ResponseError(
        f"{response.url} searched only {coverage.get('coverage', '?')} % of the documents "
        f"(reason: {reasons}); raise the timeout or wait until all nodes are up",
        status=response.status,
    )


def _hit(child: Mapping[str, Any], response: Response, manifest: Manifest) -> Hit:
    fields = dict(child.get("fields", {}))
    features = fields.pop("matchfeatures", {})
    doc_id = fields.get(manifest.id_field) if manifest.id_field else None
    if doc_id is None:
        try:
            doc_id = DocumentId.parse(str(child.get("id", ""))).doc_id
        except DataError as error:
            raise ResponseError(
                f"a hit from {response.url} has no "
                + (f"field {manifest.id_field} and no " if manifest.id_field else "")
                + f"document id (its id is {child.get('id')!r}); ask for another summary class",
                status=response.status,
            ) from error
    probability = _probability(fields, manifest)
    return Hit(str(doc_id), float(child["relevance"]), fields, features, probability)


def _probability(fields: Mapping[str, Any], manifest: Manifest) -> float | None:
    """Return the probability in a hit's summary features; one that is not a number is none."""
    features = fields.get("summaryfeatures")
    if manifest.calibration is None or not isinstance(features, Mapping):
        return None  # a function of that name would be the application's own
    value = features.get(PROBABILITY)
    return float(value) if isinstance(value, int | float) else None


def _check_tokens(hits: tuple[Hit, ...], app: App, url: str) -> None:
    """Refuse hits that were fed without tokens, or under another token contract."""
    feature = f"attribute({app.manifest.fingerprint_field})"
    expected = app.manifest.spec.fingerprint_number
    for hit in hits:
        if hit.match_features.get(feature) == expected:
            continue
        value = hit.match_features.get(feature)
        number = float(value) if isinstance(value, int | float) else 0.0
        if feature not in hit.match_features:
            fault = f"has no match-feature {feature}, so another application is deployed there"
        elif number > 0 and math.isfinite(number):
            fault = f"was fed under the token contract {int(number):013x}"
        else:  # 0, or what stands for no value
            fault = "was fed without tokens"
        raise SpecMismatch(
            f"document {hit.doc_id!r} at {url} {fault}; the application package here has "
            f"{app.manifest.spec.fingerprint}: feed the documents again with `ranker feed`"
        )
