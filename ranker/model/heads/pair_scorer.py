"""A checkpoint with the head on similarity, as a module of sentence-transformers.

    CrossEncoder("checkpoint", trust_remote_code=True).predict([(query, document), ...])

loads this class, because modules.json names it, and gives ranker's own logits: it tokenizes under
the contract, so that texts of any length are truncated as ranker truncates them.  The library asks
for `trust_remote_code` since the class is not one of its own; no code is read from the checkpoint.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentence_transformers.base.modules.input_module import InputModule

from ranker.artifacts.bundle import Checkpoint
from ranker.contract.encode import pair_inputs
from ranker.errors import UsageError
from ranker.model.base import load_weights, tensors
from ranker.model.forward import forward_of

__all__ = ["PairScorer"]


class PairScorer(InputModule):  # type: ignore[misc]
    """The only module of a `CrossEncoder`: texts to logits.

    Args:
        checkpoint: a checkpoint of `ranker train`.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._checkpoint, self._encoder = checkpoint, checkpoint.encoder()
        model = load_weights(checkpoint.path, own_head=True)
        self.config = model.config
        self.forward_pairs, _ = forward_of(model, segments=checkpoint.spec.segments, fused=True)

    @classmethod
    def load(cls, model_name_or_path: str, **_: object) -> "PairScorer":
        """Return the module of a checkpoint's folder; what else the library passes is not used."""
        return cls(Checkpoint.open(Path(model_name_or_path)))

    def preprocess(
        self, inputs: Sequence[tuple[str, str]], prompt: str | None = None, **_: object
    ) -> dict[str, Any]:
        """Return the model's inputs [pairs, positions]; a prompt goes before the query."""
        spec = self._checkpoint.spec
        queries = self._encoder.queries_ids([(prompt or "") + query for query, _ in inputs])
        documents = self._encoder.texts_ids([document for _, document in inputs])
        return dict(tensors(pair_inputs(spec, queries, documents), spec, "cpu"))

    def forward(self, features: dict[str, Any], **_: object) -> dict[str, Any]:
        """Add the logits [pairs, 1] as `scores`."""
        names = self._checkpoint.spec.model_inputs
        scores = self.forward_pairs(**{name: features[name] for name in names})
        return features | {"scores": scores}

    def save(self, output_path: str, *_: object, **__: object) -> None:
        """Refuse: the library would change files of the checkpoint, whose hashes are kept.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"a checkpoint of ranker is not saved by sentence-transformers; copy the folder "
            f"{self._checkpoint.path} to {output_path}"
        )
