"""The ways to score that need no server: torch, ONNX Runtime in Python, Vespa's evaluator."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ranker.artifacts.bundle import Checkpoint
from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import Profile
from ranker.contract import vespa_names
from ranker.contract.encode import ModelInputs, pair_inputs, zero_pad
from ranker.errors import require
from ranker.export.score import Scorer
from ranker.model.base import load_weights, tensors
from ranker.package.application import Package
from ranker.verify.parity.scored_pairs import (
    Part,
    ScoredPairs,
    encode_pairs,
    input_names,
    profile_scores,
)
from ranker.verify.vespa.court import Bench

__all__ = ["OnnxWay", "TorchWay", "VespaWay", "model_profiles"]

BATCH = 16
QUESTION = 64
"""Pairs in one question to the judge."""

_FUNCTIONS = {"second": "secondphase", "global": "globalphase"}


def model_profiles(manifest: Manifest) -> list[Profile]:
    """The rank profiles that use the model."""
    return [profile for profile in manifest.profiles if profile.needs_tokens]


class OnnxWay:
    """ONNX Runtime in Python: one padded pair a call, as Vespa calls it, and trimmed batches.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        SpecMismatch: the model was exported under another contract.
        ArtifactError: ONNX Runtime does not load it.
    """

    def __init__(self, package: Package) -> None:
        self._profiles = model_profiles(package.manifest)
        self._spec = package.spec
        self._scorer = Scorer(package.model, package.spec, threads=1)

    def look(self, part: Part) -> Iterator[ScoredPairs]:
        """Scores one by one, then in batches of like length."""
        single = [self._scorer.run(_rows(part.inputs, [row]))[0] for row in range(len(part))]
        batched = np.zeros(len(part))
        for rows in _batches(part):
            ids = [part.queries[row] for row in rows], [part.documents[row] for row in rows]
            batched[rows] = self._scorer.run(pair_inputs(self._spec, *ids))
        for name, logits in (("ONNX", np.array(single)), ("ONNX in batches", batched)):
            yield ScoredPairs(name=name, scores=profile_scores(self._profiles, logits, part.bm25))

    def close(self) -> None:
        """Stop its threads."""
        self._scorer.close()


class TorchWay:
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
        self._profiles = model_profiles(package.manifest)
        self._encoder = checkpoint.encoder()
        self._model = load_weights(checkpoint.path).eval()

    def look(self, part: Part) -> Iterator[ScoredPairs]:
        """Ids of the checkpoint's tokenizer, logits of its weights."""
        own = encode_pairs(self._encoder, part.pairs, first=part.first)
        logits = np.zeros(len(part))
        for rows in _batches(own):
            ids = [own.queries[row] for row in rows], [own.documents[row] for row in rows]
            logits[rows] = self._logits(pair_inputs(self._encoder.spec, *ids))
        scores = profile_scores(self._profiles, logits, part.bm25)
        yield ScoredPairs(name="torch", scores=scores, inputs=own.inputs)

    def _logits(self, inputs: ModelInputs) -> npt.NDArray[np.float32]:
        torch = require("torch", extra="train")
        with torch.inference_mode():
            output: Any = self._model(**tensors(inputs, self._encoder.spec, "cpu"))
        logits: npt.NDArray[np.float32] = output.logits[:, 0].numpy()
        return logits


class VespaWay:
    """Vespa's own evaluator of rank profiles, which runs a global phase on the server."""

    def __init__(self, package: Package, bench: Bench) -> None:
        self._manifest = package.manifest
        self._bench = bench

    def look(self, part: Part) -> Iterator[ScoredPairs]:
        """The model's inputs and the score, profile by profile.

        Raises:
            VerifyError: Vespa refuses the package, a profile or a binding.
        """
        names = input_names(self._manifest.spec)
        bindings = [_binding(part, row, self._manifest) for row in range(len(part))]
        for profile in model_profiles(self._manifest):
            answers = [
                answer
                for at in range(0, len(part), QUESTION)
                for answer in self._bench.judge.evaluate(
                    self._bench.app,
                    schema=self._manifest.schema,
                    profile=profile.name,
                    # The score first: the inputs are then those of its own evaluation.
                    functions=[_FUNCTIONS[profile.phase], *names],
                    bindings=bindings[at : at + QUESTION],
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


def _binding(part: Part, row: int, manifest: Manifest) -> dict[str, float | Sequence[int]]:
    """What a query and a document bring, under the names of the rank features."""
    spec = manifest.spec
    number = float(spec.fingerprint_number)
    fields = manifest.match_fields
    return {
        f"query({vespa_names.QUERY_TOKEN_IDS})": zero_pad(part.queries[row], spec.query_tokens),
        f"query({vespa_names.QUERY_TOKEN_FINGERPRINT})": number,
        f"attribute({manifest.token_field})": manifest.storage.pack(
            part.documents[row], spec.document_tokens
        ),
        f"attribute({manifest.fingerprint_field})": number,
        # The first phase is the sum over these fields.
        **{f"bm25({field})": part.bm25[row] / len(fields) for field in fields},
    }


def _batches(part: Part) -> Iterator[list[int]]:
    """Rows in batches of like length."""
    lengths = [len(q) + len(d) for q, d in zip(part.queries, part.documents, strict=True)]
    order = sorted(range(len(part)), key=lambda row: lengths[row])
    return (order[at : at + BATCH] for at in range(0, len(order), BATCH))


def _rows(inputs: ModelInputs, rows: list[int]) -> ModelInputs:
    return {name: array[rows] for name, array in inputs.items()}
