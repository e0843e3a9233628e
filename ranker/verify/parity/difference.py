"""Do the ways agree?  Ids cell by cell, scores within a tolerance, the first difference in full."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ranker.contract import vespa_names
from ranker.contract.encode import Encoder
from ranker.contract.spec import TokenSpec
from ranker.verify.parity.pairs import TextPair
from ranker.verify.parity.scored_pairs import Part, ScoredPairs

__all__ = ["OURS", "TOLERANCE", "Tally", "compare", "id_problems", "token_rows"]

TOLERANCE = 1e-4
"""Largest difference between any two scores of a pair in a rank profile."""

OURS = "ranker"
"""Name of Python's own ids, which all others are compared with."""

_AROUND = 6
"""Cells shown on either side of the first difference."""

_LEFT = 9
"""Width of the names before rows and texts."""


@dataclass
class Tally:
    """What comparisons add up to.

    Attributes:
        problems: one line each.
        difference: the first one, several lines.
        cells: cells of input ids, mask and segment ids that were compared.
        id_mismatches: rows of them that were not equal.
        largest: largest difference of two scores of a pair; NaN where a score was none.
        answers: for each way, how many scores it gave.
    """

    problems: list[str] = field(default_factory=list)
    difference: str | None = None
    cells: int = 0
    id_mismatches: int = 0
    largest: float = 0.0
    answers: dict[str, int] = field(default_factory=dict)

    def note(self, problem: str, details: str) -> None:
        """Keep a problem; the first one with its details."""
        self.problems.append(problem)
        if self.difference is None:
            self.difference = f"{problem}\n{details}"


def compare(part: Part, seen: Sequence[ScoredPairs], encoder: Encoder, tally: Tally) -> None:
    """Compare all that was seen of a part, and add it to the tally.

    Args:
        part: the pairs; its inputs are what every way should have got.
        seen: of all ways.
        encoder: spells ids for people.
        tally: added to.
    """
    for one in seen:
        for name, theirs in (one.inputs or {}).items():
            _compare_inputs(part, one, name, theirs, encoder, tally)
    for profile in dict.fromkeys(name for one in seen for name in one.scores):
        _compare_scores(part, profile, [one for one in seen if profile in one.scores], tally)


def id_problems(part: Part, spec: TokenSpec) -> list[str]:
    """Ids that no text may have: outside the vocabulary, special ones, 0, or too many."""
    special = {spec.cls_id, spec.sep_id, spec.pad_id, 0}
    problems = []
    for side, rows, most in (
        ("query", part.queries, spec.query_tokens),
        ("document", part.documents, spec.document_tokens),
    ):
        for number, ids in enumerate(rows):
            bad = [i for i in ids if i in special or not 0 < i < spec.vocabulary_size]
            if bad or len(ids) > most:
                text = _shown(_text(part.pairs[number], side))
                what = f"the ids {bad[:5]}" if bad else f"{len(ids)} tokens, more than {most}"
                problems.append(f"pair {part.first + number}: the {side} {text} has {what}")
    return problems


def token_rows(
    rows: Mapping[str, Sequence[int]], spell: Callable[[Sequence[int]], list[str]]
) -> str:
    """Two rows of ids around their first difference, one above the other, with a mark below.

    Args:
        rows: name to ids.
        spell: the vocabulary's spelling of ids.
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
    part: Part, seen: ScoredPairs, name: str, theirs: np.ndarray, encoder: Encoder, tally: Tally
) -> None:
    ours = part.inputs[name]
    looked_at = np.ones(len(part), dtype=bool) if seen.rows is None else seen.rows
    tally.cells += int(looked_at.sum()) * ours.shape[1]
    spell = encoder.pieces if name == vespa_names.ONNX_INPUTS[0] else _numbers
    for row in map(int, np.flatnonzero(looked_at & (ours != theirs).any(axis=1))):
        tally.id_mismatches += 1
        pair = part.pairs[row]
        shown = {OURS: ours[row].tolist(), seen.name: [int(cell) for cell in theirs[row]]}
        tally.note(
            f"pair {part.first + row}: {name} differs between {OURS} and {seen.name}",
            f"{_texts(pair)}\n{token_rows(shown, spell)}",
        )


def _compare_scores(part: Part, profile: str, seen: Sequence[ScoredPairs], tally: Tally) -> None:
    """No two of a pair's scores may differ by more than the tolerance."""
    scores = np.stack([one.scores[profile] for one in seen])
    there = np.stack([np.ones(len(part), bool) if s.rows is None else s.rows for s in seen])
    for one, mask in zip(seen, there, strict=True):
        tally.answers[one.name] = tally.answers.get(one.name, 0) + int(mask.sum())
    low = np.where(there, scores, np.inf)
    high = np.where(there, scores, -np.inf)
    spread = high.max(axis=0) - low.min(axis=0)  # NaN stays NaN
    spread[~there.any(axis=0)] = 0.0
    tally.largest = float(np.maximum(tally.largest, spread.max(initial=0.0)))
    for row in map(int, np.flatnonzero(~(spread <= TOLERANCE))):  # also true for NaN
        lowest, highest = int(low[:, row].argmin()), int(high[:, row].argmax())
        told = ", ".join(
            f"{scores[at, row]:.6f} in {seen[at].name}" for at in dict.fromkeys((highest, lowest))
        )
        tally.note(
            f"pair {part.first + row}: profile {profile}: score {told} (allowed {TOLERANCE:g})",
            _texts(part.pairs[row]),
        )


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
    return "\n".join(
        f"  {side:<{_LEFT}} {_shown(_text(pair, side))}" for side in ("query", "document")
    )


def _shown(text: str) -> str:
    """A text as one line of ASCII, shortened."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")
