"""The backends that need no server: torch, ONNX Runtime in Python, Vespa's evaluator."""

from collections.abc import Iterator, Sequence

import numpy as np

from ranker.artifacts.bundle import Checkpoint
from ranker.artifacts.manifest import Manifest
from ranker.contract import vespa_names
from ranker.contract.encode import ModelInputs, pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.contract.storage import FLOAT
from ranker.errors import require
from ranker.export.score import Scorer
from ranker.model.base import load_weights, tensors
from ranker.package.application import Package
from ranker.verify.parity.scored_pairs import (
    EncodedPairs,
    ScoredPairs,
    Scores,
    encode_pairs,
    model_profiles,
)
from ranker.verify.vespa.process import OpenPackage

__all__ = ["OnnxBackend", "TorchBackend", "VespaBackend"]

BATCH = 16
REQUEST_PAIRS = 64
"""Pairs in one request to Vespa's process."""

_FUNCTIONS = {"second": "secondphase", "global": "globalphase"}


class OnnxBackend:
    """ONNX Runtime in Python: single padded pairs, as Vespa runs the model, and trimmed batches.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        SpecMismatch: the model was exported under another contract.
        ArtifactError: ONNX Runtime does not load it.
    """

    def __init__(self, package: Package) -> None:
        self._manifest = package.manifest
        # One thread, as a content node has for a query; the backends share the cores.
        self._scorer = Scorer(package.model, package.spec, threads=1)

    def score(self, batch: EncodedPairs) -> Iterator[ScoredPairs]:
        """Score pairs one by one, then in batches of similar length."""
        single = np.zeros(len(batch))
        for row in range(len(batch)):
            padded = {name: array[[row]] for name, array in batch.inputs.items()}
            single[row] = self._scorer.run(padded)[0]
        batched = np.zeros(len(batch))
        for rows, inputs in _batches(batch, self._manifest.spec):
            batched[rows] = self._scorer.run(inputs)
        for name, logits in (("ONNX", single), ("ONNX in batches", batched)):
            yield ScoredPairs(name=name, scores=_scores(self._manifest, logits, batch.bm25))

    def close(self) -> None:
        """Stop the threads of ONNX Runtime."""
        self._scorer.close()


class TorchBackend:
    """The trained checkpoint in torch, with its own tokenizer and the library's own forward.

    Raises:
        SpecMismatch: the checkpoint has another token contract than the package.
        ArtifactError: its weights cannot be read.
        MissingExtra: torch or transformers is not installed.
    """

    def __init__(self, package: Package, checkpoint: Checkpoint) -> None:
        package.spec.require_same(
            checkpoint.spec, here=str(package.path), there=f"the checkpoint {checkpoint.path}"
        )
        self._manifest = package.manifest
        self._encoder = checkpoint.encoder()
        self._model = load_weights(checkpoint.path).eval()

    def score(self, batch: EncodedPairs) -> Iterator[ScoredPairs]:
        """Score pairs with the checkpoint's own tokenizer and weights."""
        own = encode_pairs(self._encoder, batch.pairs, first=batch.first)
        logits = np.zeros(len(batch))
        with require("torch", extra="train").inference_mode():
            for rows, inputs in _batches(own, self._encoder.spec):
                output = self._model(**tensors(inputs, self._encoder.spec, "cpu"))
                logits[rows] = output.logits[:, 0].numpy()
        scores = _scores(self._manifest, logits, batch.bm25)
        yield ScoredPairs(name="torch", scores=scores, inputs=own.inputs)


class VespaBackend:
    """Vespa's own evaluator of rank profiles, which runs a global phase on the server."""

    def __init__(self, package: Package, vespa: OpenPackage) -> None:
        self._manifest = package.manifest
        self._vespa = vespa

    def score(self, batch: EncodedPairs) -> Iterator[ScoredPairs]:
        """Compute the model's inputs and the score, profile by profile.

        Raises:
            VerifyError: Vespa rejects the package, a profile or a binding.
        """
        names = self._manifest.spec.model_inputs
        bindings = [_binding(batch, row, self._manifest) for row in range(len(batch))]
        for profile in model_profiles(self._manifest):
            answers = [
                answer
                for at in range(0, len(batch), REQUEST_PAIRS)
                for answer in self._vespa.process.evaluate(
                    self._vespa.copy,
                    schema=self._manifest.schema,
                    profile=profile.name,
                    # The score first: the inputs are then those of its own evaluation.
                    functions=[_FUNCTIONS[profile.phase], *names],
                    bindings=bindings[at : at + REQUEST_PAIRS],
                )
            ]
            yield ScoredPairs(
                name=f"Vespa ({profile.name})",
                scores={profile.name: np.array([float(answer[0][0]) for answer in answers])},
                inputs={
                    name: np.stack([answer[column] for answer in answers])
                    for column, name in enumerate(names, start=1)
                },
            )


def _scores(manifest: Manifest, logits: Scores, bm25: Scores) -> dict[str, Scores]:
    return {profile.name: profile.score(bm25, logits) for profile in model_profiles(manifest)}


def _binding(batch: EncodedPairs, row: int, manifest: Manifest) -> dict[str, float | Sequence[int]]:
    """Return the values of a query and a document by the names of the rank features."""
    spec = manifest.spec
    number = float(spec.fingerprint_number)
    fields = manifest.match_fields
    return {
        f"query({vespa_names.QUERY_TOKEN_IDS})": FLOAT.pack(batch.queries[row], spec.query_tokens),
        f"query({vespa_names.QUERY_TOKEN_FINGERPRINT})": number,
        # Packed as it is fed, so that the profile's own expression unpacks it.
        f"attribute({manifest.token_field})": manifest.storage.pack(
            batch.documents[row], spec.document_tokens
        ),
        f"attribute({manifest.fingerprint_field})": number,
        # The first phase is the sum over these fields.
        **{f"bm25({field})": batch.bm25[row] / len(fields) for field in fields},
    }


def _batches(batch: EncodedPairs, spec: TokenSpec) -> Iterator[tuple[list[int], ModelInputs]]:
    """Split pairs into batches of similar length: their rows, and the inputs without padding."""
    lengths = [len(q) + len(d) for q, d in zip(batch.queries, batch.documents, strict=True)]
    order = sorted(range(len(batch)), key=lambda row: lengths[row])
    for at in range(0, len(order), BATCH):
        rows = order[at : at + BATCH]
        ids = [batch.queries[row] for row in rows], [batch.documents[row] for row in rows]
        yield rows, pair_inputs(spec, *ids)
