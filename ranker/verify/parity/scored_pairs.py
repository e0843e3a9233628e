"""Pairs laid out as ids, and what one way of scoring makes of them.

A way (torch, ONNX, the engine, Vespa) looks at a `Part` of the pairs and says what the model got
and which scores came out, as a `ScoredPairs`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ranker.artifacts.profile import Profile
from ranker.contract import vespa_names
from ranker.contract.encode import Encoder, ModelInputs, pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.verify.parity.pairs import TextPair

__all__ = [
    "Part",
    "Scores",
    "ScoredPairs",
    "ScoringBackend",
    "encode_pairs",
    "input_names",
    "profile_scores",
]

Scores = npt.NDArray[np.float64]

LARGEST_BM25 = 30.0


@dataclass(frozen=True)
class Part:
    """Some of the pairs, tokenized.

    Attributes:
        first: number of the first pair among all.
        pairs: the texts.
        queries, documents: ids of each side.
        inputs: what the model should get, each [pairs, spec.length].
        bm25: made-up scores of the first phase, so that a blend shows its weights, [pairs].
    """

    first: int
    pairs: Sequence[TextPair]
    queries: list[list[int]]
    documents: list[list[int]]
    inputs: ModelInputs
    bm25: Scores

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True, kw_only=True)
class ScoredPairs:
    """What one way made of a part.

    Attributes:
        name: of the way, for people.
        scores: for each rank profile, [pairs].
        inputs: what the model got, each [pairs, spec.length]; None where it is not told, or is
            that of another `ScoredPairs` of the same way.
        rows: pairs that were looked at; of the others the values mean nothing.  All by default.
    """

    name: str
    scores: Mapping[str, Scores]
    inputs: Mapping[str, npt.NDArray[Any]] | None = None
    rows: npt.NDArray[np.bool_] | None = None


class ScoringBackend(Protocol):
    """One way to score pairs."""

    def look(self, part: Part) -> Iterator[ScoredPairs]:
        """What it makes of a part.

        Raises:
            RankerError: it cannot be had, or refuses.
        """


def encode_pairs(encoder: Encoder, pairs: Sequence[TextPair], *, first: int = 0) -> Part:
    """Tokenize pairs and lay them out as the model should get them."""
    queries = encoder.queries_ids([pair.query for pair in pairs])
    documents = encoder.documents_ids([pair.document for pair in pairs])
    inputs = pair_inputs(encoder.spec, queries, documents, length=encoder.spec.length)
    bm25 = np.random.default_rng(first).uniform(0, LARGEST_BM25, len(pairs)).round(3)
    return Part(first, pairs, queries, documents, inputs, bm25)


def profile_scores(
    profiles: Sequence[Profile], logits: npt.NDArray[np.floating], bm25: Scores
) -> dict[str, Scores]:
    """Scores of every rank profile, as the manifest writes them."""
    return {profile.name: profile.score(bm25, logits.astype(np.float64)) for profile in profiles}


def input_names(spec: TokenSpec) -> tuple[str, ...]:
    """Inputs of the model, which are also functions of every rank profile with a model."""
    return vespa_names.ONNX_INPUTS if spec.segments else vespa_names.ONNX_INPUTS[:2]
