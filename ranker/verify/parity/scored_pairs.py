"""Encoded pairs, and the scores that a backend gives them.

A backend (torch, ONNX, the engine, Vespa) scores `EncodedPairs` and gives `ScoredPairs`: what the
model received, and which scores came out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile
from ranker.contract.encode import Encoder, ModelInputs, pair_inputs
from ranker.verify.parity.pairs import TextPair

__all__ = [
    "EncodedPairs",
    "ScoredPairs",
    "Scores",
    "ScoringBackend",
    "encode_pairs",
    "model_profiles",
]

Scores = npt.NDArray[np.float64]

LARGEST_BM25 = 30.0


@dataclass(frozen=True)
class EncodedPairs:
    """Some of the pairs, tokenized.

    Attributes:
        first: number of the first pair among all.
        pairs: the texts.
        queries, documents: ids of each side.
        inputs: what the model should receive, each [pairs, spec.length].
        bm25: synthetic scores of the first phase, so that a blend shows its weights, [pairs].
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
    """The result of one backend for some encoded pairs.

    Attributes:
        name: of the backend, for messages.
        scores: for each rank profile, [pairs].
        inputs: what the model received, each [pairs, spec.length]; None where it is not known, or
            is part of another `ScoredPairs` of the same backend.
        rows: pairs that were scored, all by default; values of the others have no meaning.
    """

    name: str
    scores: Mapping[str, Scores]
    inputs: Mapping[str, npt.NDArray[np.number]] | None = None
    rows: npt.NDArray[np.bool_] | None = None


class ScoringBackend(Protocol):
    """One way to score pairs."""

    def score(self, batch: EncodedPairs) -> Iterator[ScoredPairs]:
        """Score pairs with every rank profile that uses the model.

        Raises:
            RankerError: the backend is not available, or rejects a pair.
        """


def encode_pairs(encoder: Encoder, pairs: Sequence[TextPair], *, first: int = 0) -> EncodedPairs:
    """Tokenize pairs and lay them out as the model should receive them."""
    queries = encoder.queries_ids([pair.query for pair in pairs])
    documents = encoder.documents_ids([pair.document for pair in pairs])
    inputs = pair_inputs(encoder.spec, queries, documents, length=encoder.spec.length)
    bm25 = np.random.default_rng(first).uniform(0, LARGEST_BM25, len(pairs)).round(3)
    return EncodedPairs(first, pairs, queries, documents, inputs, bm25)


def model_profiles(manifest: Manifest) -> list[Profile]:
    """Return the rank profiles that use the model."""
    return [profile for profile in manifest.profiles if profile.needs_tokens]
