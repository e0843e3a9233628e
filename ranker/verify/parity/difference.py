"""The comparison of backends: ids cell by cell, scores within a tolerance."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ranker.contract import vespa_names
from ranker.contract.encode import Encoder
from ranker.contract.spec import TokenSpec
from ranker.verify.parity.pairs import TextPair
from ranker.verify.parity.scored_pairs import EncodedPairs, ScoredPairs

__all__ = ["OURS", "TOLERANCE", "Tally", "compare", "id_problems", "token_rows"]

TOLERANCE = 1e-4
"""Largest difference between any two scores of a pair in a rank profile."""

OURS = "ranker"
"""Name of the ids of our own encoder, which all others are compared with."""

_AROUND = 6
"""Cells shown on either side of the first difference."""

_LEFT = 9
"""Width of the column of names."""


@dataclass
class Tally:
    """The sum of comparisons.

    Attributes:
        problems: one line each.
        difference: the first problem in full, several lines.
        cells: cells of input ids, mask and segment ids that were compared.
        id_mismatches: rows of them that were not equal.
        largest: largest difference of two scores of a pair; NaN if a score is NaN.
        scores: by backend, the number of its scores.
    """

    problems: list[str] = field(default_factory=list)
    difference: str | None = None
    cells: int = 0
    id_mismatches: int = 0
    largest: float = 0.0
    scores: dict[str, int] = field(default_factory=dict)

    def note(self, problem: str, details: str) -> None:
        """Add a problem; keep the details of the first one."""
        self.problems.append(problem)
        if self.difference is None:
            self.difference = f"{problem}\n{details}"


def compare(
    batch: EncodedPairs, results: Sequence[ScoredPairs], encoder: Encoder, tally: Tally
) -> None:
    """Compare all results of a batch, and add them to the tally.

    Args:
        batch: the pairs; its inputs are what the model should have received.
        results: of all backends.
        encoder: spells ids in messages.
        tally: the sum so far.
    """
    for result in results:
        for name, theirs in (result.inputs or {}).items():
            _compare_inputs(batch, result, name, theirs, encoder, tally)
    for profile in dict.fromkeys(name for result in results for name in result.scores):
        scored = [result for result in results if profile in result.scores]
        _compare_scores(batch, profile, scored, tally)


def id_problems(batch: EncodedPairs, spec: TokenSpec) -> list[str]:
    """Find ids that no text may have: outside the vocabulary, special ones, 0, or too many."""
    special = {spec.cls_id, spec.sep_id, spec.pad_id, 0}
    problems = []
    for side, rows, most in (
        ("query", batch.queries, spec.query_tokens),
        ("document", batch.documents, spec.document_tokens),
    ):
        for number, ids in enumerate(rows):
            bad = [i for i in ids if i in special or not 0 < i < spec.vocabulary_size]
            if bad or len(ids) > most:
                text = _shown(_text(batch.pairs[number], side))
                what = f"the ids {bad[:5]}" if bad else f"{len(ids)} tokens, more than {most}"
                problems.append(f"pair {batch.first + number}: the {side} {text} has {what}")
    return problems


def token_rows(
    rows: Mapping[str, Sequence[int]], spell: Callable[[Sequence[int]], list[str]]
) -> str:
    """Show two rows of ids around their first difference, with a mark below it.

    Args:
        rows: ids by name.
        spell: gives the vocabulary's spelling of ids.
    """
    first, second = rows.values()
    length = max(len(first), len(second))
    at = next((i for i in range(length) if list(first[i : i + 1]) != list(second[i : i + 1])), 0)
    window = range(max(0, at - _AROUND), min(length, at + _AROUND + 1))
    cells = [
        [str(i) for i in window],
        *(_cells(ids, window, spell) for ids in rows.values()),
        ["^" if i == at else "" for i in window],
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    names = ["position", *rows, ""]
    left = max(_LEFT, *(len(name) for name in names))
    return "\n".join(
        f"  {name:<{left}} "
        + " ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        for name, row in zip(names, cells, strict=True)
    ).rstrip()


def _compare_inputs(
    batch: EncodedPairs,
    result: ScoredPairs,
    name: str,
    theirs: npt.NDArray[np.number],
    encoder: Encoder,
    tally: Tally,
) -> None:
    ours = batch.inputs[name]
    scored = np.ones(len(batch), dtype=bool) if result.rows is None else result.rows
    tally.cells += int(scored.sum()) * ours.shape[1]
    spell = encoder.pieces if name == vespa_names.ONNX_INPUTS[0] else _numbers
    for row in map(int, np.flatnonzero(scored & (ours != theirs).any(axis=1))):
        tally.id_mismatches += 1
        pair = batch.pairs[row]
        shown = {OURS: ours[row].tolist(), result.name: [int(cell) for cell in theirs[row]]}
        tally.note(
            f"pair {batch.first + row}: {name} differs between {OURS} and {result.name}",
            f"{_texts(pair)}\n{token_rows(shown, spell)}",
        )


def _compare_scores(
    batch: EncodedPairs, profile: str, results: Sequence[ScoredPairs], tally: Tally
) -> None:
    """Check that no two scores of a pair differ by more than the tolerance."""
    scores = np.stack([result.scores[profile] for result in results])
    scored = np.stack([np.ones(len(batch), bool) if r.rows is None else r.rows for r in results])
    for result, mask in zip(results, scored, strict=True):
        tally.scores[result.name] = tally.scores.get(result.name, 0) + int(mask.sum())
    # Pairs that a backend did not score must be neither lowest nor highest.
    low = np.where(scored, scores, np.inf)
    high = np.where(scored, scores, -np.inf)
    spread = high.max(axis=0) - low.min(axis=0)  # NaN stays NaN
    spread[~scored.any(axis=0)] = 0.0
    tally.largest = float(np.maximum(tally.largest, spread.max(initial=0.0)))
    for row in map(int, np.flatnonzero(~(spread <= TOLERANCE))):  # also true for NaN
        lowest, highest = int(low[:, row].argmin()), int(high[:, row].argmax())
        both = ", ".join(
            f"{scores[at, row]:.6f} in {results[at].name}"
            for at in dict.fromkeys((highest, lowest))
        )
        tally.note(
            f"pair {batch.first + row}: profile {profile}: score {both} (allowed {TOLERANCE:g})",
            _texts(batch.pairs[row]),
        )


def _cells(
    ids: Sequence[int], window: range, spell: Callable[[Sequence[int]], list[str]]
) -> list[str]:
    cells = spell([ids[i] for i in window if i < len(ids)])
    return cells + ["-"] * (len(window) - len(cells))


def _numbers(ids: Sequence[int]) -> list[str]:
    return [str(i) for i in ids]


def _text(pair: TextPair, side: str) -> str:
    return pair.query if side == "query" else f"{pair.document.title} {pair.document.text}".strip()


def _texts(pair: TextPair) -> str:
    return "\n".join(
        f"  {side:<{_LEFT}} {_shown(_text(pair, side))}" for side in ("query", "document")
    )


def _shown(text: str) -> str:
    """Write a text as one line of ASCII, shortened."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
