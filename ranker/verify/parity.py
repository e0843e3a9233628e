"""Ids and scores of pairs: Python's against those of Vespa's evaluator, cell by cell."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ranker import contract
from ranker.encode import Encoder, ModelInputs, pair_inputs, stored
from ranker.errors import MissingExtra, RankerError
from ranker.manifest import Profile
from ranker.package import Package
from ranker.score import Scorer
from ranker.spec import TokenSpec
from ranker.verify.court import Court
from ranker.verify.pairs import TextPair
from ranker.verify.result import CheckResult, first_of

__all__ = ["TOLERANCE", "Encoded", "check_parity", "encode_pairs", "id_problems", "token_rows"]

TOLERANCE = 1e-4
CHUNK = 64
"""Pairs in one question to the judge."""

BATCH = 16
_FUNCTIONS = {"second": "secondphase", "global": "globalphase"}


@dataclass(frozen=True)
class Encoded:
    """Pairs as ids, as model inputs padded to the full length, and their scores in Python.

    Attributes:
        pairs: the texts.
        queries, documents: ids of each side.
        inputs: what the model should get, each [pairs, spec.length].
        bm25: made-up scores of the first phase, so that a blend shows its weights.
        logits: of ONNX Runtime in Python, [pairs].
    """

    pairs: Sequence[TextPair]
    queries: list[list[int]]
    documents: list[list[int]]
    inputs: ModelInputs
    bm25: npt.NDArray[np.float64]
    logits: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


@dataclass
class _Tally:
    """What a comparison adds up."""

    problems: list[str] = field(default_factory=list)
    difference: str | None = None
    cells: int = 0
    id_mismatches: int = 0
    largest: float = 0.0

    def note(self, problem: str, details: str) -> None:
        """Keep a problem; the first one with its details."""
        self.problems.append(problem)
        if self.difference is None:
            self.difference = f"{problem}\n{details}"


def check_parity(package: Package, pairs: Sequence[TextPair], *, court: Court) -> CheckResult:
    """Compare ids, mask, segments and scores of pairs, for every rank profile with a model.

    Args:
        package: the application package.
        pairs: texts.
        court: Vespa's evaluator.
    """
    encoded = encode_pairs(package.encoder(), pairs)
    tally = _Tally(problems=id_problems(encoded, package.spec))
    try:
        encoded = _scored(package, encoded, tally)
    except MissingExtra as error:
        missed = (f"scores of the model: {error}",)
        return CheckResult(name="parity", problems=first_of(tally.problems), skipped=missed)
    except RankerError as error:
        return CheckResult(name="parity", problems=first_of([*tally.problems, str(error)]))
    profiles = [profile for profile in package.manifest.profiles if profile.needs_tokens]
    for profile in profiles if court.bench else ():
        _compare(package, profile, encoded, court, tally)
    return CheckResult(
        name="parity",
        problems=first_of(tally.problems),
        skipped=court.skipped("ids and scores in Vespa's evaluator"),
        figures=_figures(len(pairs), len(profiles) if court.bench else 0, tally),
        difference=tally.difference,
    )


def encode_pairs(encoder: Encoder, pairs: Sequence[TextPair]) -> Encoded:
    """Tokenize pairs and lay them out; scores come later."""
    queries = encoder.queries_ids([pair.query for pair in pairs])
    documents = encoder.documents_ids([pair.document for pair in pairs])
    inputs = pair_inputs(encoder.spec, queries, documents, length=encoder.spec.length)
    bm25 = np.random.default_rng(len(pairs)).uniform(0, 30, len(pairs)).round(3)
    return Encoded(pairs, queries, documents, inputs, bm25)


def id_problems(encoded: Encoded, spec: TokenSpec) -> list[str]:
    """Ids that no text may have: outside the vocabulary, special ones, 0, or too many."""
    special = {spec.cls_id, spec.sep_id, spec.pad_id, 0}
    problems = []
    for side, rows, most in (
        ("query", encoded.queries, spec.query_tokens),
        ("document", encoded.documents, spec.document_tokens),
    ):
        for number, ids in enumerate(rows):
            bad = [i for i in ids if i in special or not 0 < i < spec.vocabulary_size]
            if bad or len(ids) > most:
                text = _shown(_text(encoded.pairs[number], side))
                what = f"the ids {bad[:5]}" if bad else f"{len(ids)} tokens, more than {most}"
                problems.append(f"pair {number}: the {side} {text} has {what}")
    return problems


def token_rows(
    ours: Sequence[int], theirs: Sequence[int], spell: Callable[[Sequence[int]], list[str]]
) -> str:
    """Two rows of ids around their first difference, one above the other, with a mark below."""
    length = max(len(ours), len(theirs))
    at = next((i for i in range(length) if list(ours[i : i + 1]) != list(theirs[i : i + 1])), 0)
    window = range(max(0, at - 6), min(length, at + 7))
    rows = [
        [str(i) for i in window],
        _cells(ours, window, spell),
        _cells(theirs, window, spell),
        ["^" if i == at else "" for i in window],
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    names = ("position", "ranker", "Vespa", "")
    return "\n".join(
        f"  {name:<9} " + " ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for name, row in zip(names, rows, strict=True)
    ).rstrip()


def _scored(package: Package, encoded: Encoded, tally: _Tally) -> Encoded:
    """With scores as Vespa calls the model, one padded pair a call, checked against batches."""
    spec, count = package.spec, len(encoded.pairs)
    scorer = Scorer(package.model, spec, threads=1)
    batched = np.zeros(count)
    try:
        single = [scorer.run(_rows(encoded.inputs, range(row, row + 1)))[0] for row in range(count)]
        for rows in _chunks(count, BATCH):
            ids = [(encoded.queries[row], encoded.documents[row]) for row in rows]
            queries, documents = zip(*ids, strict=True)
            batched[rows.start : rows.stop] = scorer.run(pair_inputs(spec, queries, documents))
    finally:
        scorer.close()
    logits = np.array(single, dtype=np.float64)
    tally.largest = float(np.abs(batched - logits).max(initial=0.0))
    if not tally.largest <= TOLERANCE:  # also true for NaN
        tally.problems.append(
            f"padded to {spec.length} one by one and trimmed in batches, the model gives scores "
            f"that differ by {tally.largest:.2g} (allowed {TOLERANCE:g})"
        )
    return dataclasses.replace(encoded, logits=logits)


def _compare(
    package: Package, profile: Profile, encoded: Encoded, court: Court, tally: _Tally
) -> None:
    """Compare a rank profile's inputs and scores, pair by pair, with Vespa's."""
    encoder = package.encoder()
    for row, answer in enumerate(_answers(court, profile, encoded, package.spec)):
        where = f"profile {profile.name}, pair {row}"
        for name, theirs in zip(_inputs(package.spec), answer[:-1], strict=True):
            ours = encoded.inputs[name][row]
            tally.cells += len(ours)
            if not np.array_equal(ours, theirs):
                tally.id_mismatches += 1
                spell = encoder.pieces if name == contract.ONNX_INPUTS[0] else _numbers
                rows = token_rows(ours.tolist(), [int(cell) for cell in theirs], spell)
                tally.note(f"{where}: {name} differs", f"{_texts(encoded.pairs[row])}\n{rows}")
        _compare_score(profile, encoded, row, float(answer[-1][0]), tally)


def _answers(
    court: Court, profile: Profile, encoded: Encoded, spec: TokenSpec
) -> Iterator[list[npt.NDArray[np.float64]]]:
    """Vespa's answers, pair by pair: the model's inputs, then the score."""
    if court.bench is None:
        return
    functions = [*_inputs(spec), _FUNCTIONS[profile.phase]]
    for rows in _chunks(len(encoded.pairs), CHUNK):
        yield from court.bench.judge.evaluate(
            court.bench.app,
            profile=profile.name,
            functions=functions,
            bindings=[_binding(encoded, row, spec) for row in rows],
        )


def _binding(encoded: Encoded, row: int, spec: TokenSpec) -> dict[str, float | Sequence[int]]:
    """What a query and a document bring, under the names of the rank features."""
    number = float(spec.fingerprint_number)
    query = stored(encoded.queries[row], spec.query_tokens)
    document = stored(encoded.documents[row], spec.document_tokens)
    return {
        f"query({contract.QUERY_TOKEN_IDS})": query,
        f"query({contract.QUERY_TOKEN_SPEC})": number,
        f"attribute({contract.DOC_TOKEN_IDS})": document,
        f"attribute({contract.TOKEN_SPEC})": number,
        f"bm25({contract.CONTENTS})": float(encoded.bm25[row]),
    }


def _compare_score(
    profile: Profile, encoded: Encoded, row: int, theirs: float, tally: _Tally
) -> None:
    ours = profile.bm25_weight * encoded.bm25[row] + profile.logit_weight * encoded.logits[row]
    gap = abs(ours - theirs)
    tally.largest = float(np.maximum(tally.largest, gap))  # keeps NaN
    if not gap <= TOLERANCE:  # also true for NaN
        where = f"profile {profile.name}, pair {row}"
        scores = f"score {ours:.6f} in Python, {theirs:.6f} in Vespa (allowed {TOLERANCE:g})"
        tally.note(f"{where}: {scores}", _texts(encoded.pairs[row]))


def _inputs(spec: TokenSpec) -> tuple[str, ...]:
    """Inputs of the model, which are also the names of the rank profile's functions."""
    return contract.ONNX_INPUTS if spec.segments else contract.ONNX_INPUTS[:2]


def _figures(pairs: int, profiles: int, tally: _Tally) -> dict[str, float]:
    return {
        "pairs": pairs,
        "profiles": profiles,
        "cells": tally.cells,
        "id_mismatches": tally.id_mismatches,
        "largest_score_difference": tally.largest,
    }


def _rows(inputs: ModelInputs, rows: range) -> ModelInputs:
    return {name: array[rows.start : rows.stop] for name, array in inputs.items()}


def _chunks(count: int, size: int) -> Iterator[range]:
    return (range(start, min(start + size, count)) for start in range(0, count, size))


def _cells(
    ids: Sequence[int], window: range, spell: Callable[[Sequence[int]], list[str]]
) -> list[str]:
    there = spell([ids[i] for i in window if i < len(ids)])
    return there + ["-"] * (len(window) - len(there))


def _numbers(ids: Sequence[int]) -> list[str]:
    return [str(i) for i in ids]


def _text(pair: TextPair, side: str) -> str:
    return pair.query if side == "query" else f"{pair.document.title} {pair.document.text}".strip()


def _texts(pair: TextPair) -> str:
    return "\n".join(f"  {side:<9} {_shown(_text(pair, side))}" for side in ("query", "document"))


def _shown(text: str) -> str:
    """A text as one line of ASCII, shortened."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
