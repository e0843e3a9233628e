"""Reranking a list of texts in this process, without a search engine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ranker.artifacts.bundle import Bundle, Checkpoint
from ranker.artifacts.calibration import calibration_of, why_uncalibrated
from ranker.contract.encode import document_text
from ranker.errors import UsageError
from ranker.records import Document

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ranker.contract.spec import TokenSpec

__all__ = ["RankedText", "Reranker"]


@dataclass(frozen=True, slots=True)
class RankedText:
    """One text of a reranked list.

    Attributes:
        index: its position in the list that was given, from 0.
        score: the cross-encoder's logit; higher is more relevant, comparable within one query.
        text: the text as it was given, or the text that the model saw of a `Document`.
    """

    index: int
    score: float
    text: str


class _Pairs(Protocol):
    """Anything that scores pairs of token ids, row by row."""

    def __call__(
        self, queries_ids: Sequence[Sequence[int]], documents_ids: Sequence[Sequence[int]]
    ) -> "npt.NDArray[np.float32]": ...


class Reranker:
    """A cross-encoder that ranks texts for a query under its token contract.

    A bundle is computed by ONNX Runtime, a checkpoint or another library's cross-encoder by
    torch; the scores agree within the tolerance of the export's check (1e-4).

    Args:
        model: a bundle, a checkpoint, the folder of either, or a cross-encoder of transformers or
            sentence-transformers with one logit: its folder or its Hugging Face id.
        threads: cores that a bundle uses; all by default.

    Raises:
        ArtifactError: the folder is none of these, or a file in it was changed.
        ExportError: the cross-encoder cannot be used or found.
        MissingExtra: torch or ONNX Runtime is needed and not installed.
    """

    def __init__(
        self, model: "str | Path | Bundle | Checkpoint", *, threads: int | None = None
    ) -> None:
        opened = _open(model)
        self.spec = opened.spec
        self._encoder = opened.encoder()
        self._about = opened.about if isinstance(opened, Bundle) else opened.training
        self._pairs = _onnx(opened, threads) if isinstance(opened, Bundle) else _torch(opened)

    def rank(
        self, query: str, texts: Iterable[str | Document], *, top_k: int | None = None
    ) -> list[RankedText]:
        """Rank texts for a query, best first; equal scores keep the order that was given.

        Args:
            query: the question.
            texts: strings or documents; each is truncated to the contract's document slots.
            top_k: how many to return; all by default.

        Raises:
            UsageError: `top_k` is below 1, or a text is neither a string nor a Document.
        """
        if top_k is not None and top_k < 1:
            raise UsageError(f"expected a top_k of 1 or more, got {top_k}")
        if isinstance(texts, str):
            raise UsageError("expected a list of texts, got a single string")
        shown = [self._text(text) for text in texts]
        scores = self.score([(query, text) for text in shown])
        best = sorted(range(len(shown)), key=lambda index: -scores[index])[:top_k]
        return [RankedText(index, float(scores[index]), shown[index]) for index in best]

    def score(self, pairs: Sequence[tuple[str, str | Document]]) -> "npt.NDArray[np.float32]":
        """Return the logits [pairs] of query-text pairs, in the order given.

        Raises:
            UsageError: a text is neither a string nor a Document.
        """
        pairs = list(pairs)
        queries = self._encoder.queries_ids([self._text(query) for query, _ in pairs])
        documents = self._encoder.texts_ids([self._text(text) for _, text in pairs])
        return self._pairs(queries, documents)

    def probabilities(
        self, pairs: Sequence[tuple[str, str | Document]]
    ) -> "npt.NDArray[np.float64]":
        """Return the probability [pairs] that a text is relevant to its query, in the order given.

        It was learned on documents that BM25 retrieves for a query; a text from elsewhere is less
        often relevant at the same logit.

        Raises:
            UsageError: the model is uncalibrated, or a text is neither a string nor a Document.
        """
        import numpy as np

        calibration = calibration_of(self._about)
        if calibration is None:
            raise UsageError(
                f"expected a calibrated model, this one is not: {why_uncalibrated(self._about)}; "
                "its logits (`score`) still rank the texts of one query"
            )
        return np.array([calibration.probability(float(logit)) for logit in self.score(pairs)])

    def _text(self, text: str | Document) -> str:
        if isinstance(text, Document):
            return document_text(text, self.spec)
        if not isinstance(text, str):
            raise UsageError(f"expected a string or a Document, got {type(text).__name__}")
        return text


def _open(model: "str | Path | Bundle | Checkpoint") -> Bundle | Checkpoint:
    if isinstance(model, Bundle | Checkpoint):
        return model
    path = Path(model)
    if (path / Bundle.MARKER).is_file():
        return Bundle.open(path)
    from ranker.model.interchange import open_model

    return open_model(model)


def _onnx(bundle: Bundle, threads: int | None) -> _Pairs:
    from ranker.export.score import Scorer

    return Scorer(bundle.model, bundle.spec, threads=threads).pairs


def _torch(checkpoint: Checkpoint) -> _Pairs:
    from ranker.model.base import load_weights, predict
    from ranker.model.forward import forward_of
    from ranker.model.task import RELEVANCE

    model = load_weights(checkpoint.path, own_head=True).eval()
    spec: TokenSpec = checkpoint.spec
    forward, _ = forward_of(model, segments=spec.segments, fused=True)
    forward.eval()  # once: several threads may use it, so no call may change its mode
    return lambda queries, documents: RELEVANCE.score(predict(forward, spec, queries, documents))
