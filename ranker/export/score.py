"""Scoring pairs with ONNX Runtime, without torch: what the embedded engine does at query time."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ranker.contract import vespa_names
from ranker.contract.encode import ModelInputs, pair_inputs
from ranker.contract.spec import TokenSpec
from ranker.errors import ArtifactError, SpecMismatch, require

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["Scorer", "open_session"]

BATCH = 16
"""Pairs in one call: on 2 cores larger batches were not faster, and need more padding."""


def open_session(model: Path, *, threads: int) -> "onnxruntime.InferenceSession":
    """Open an ONNX Runtime session on the CPU.

    Raises:
        ArtifactError: the file is not a model that this ONNX Runtime loads.
    """
    runtime = require("onnxruntime", extra="export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(
            str(model), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises its own bare classes
        reason = str(error).splitlines()[0].replace(str(model), model.name)
        raise ArtifactError(
            f"{model.name} cannot be loaded by ONNX Runtime: {reason}", about=model.parent
        ) from error


class Scorer:
    """Logits of query-document pairs.

    Batches hold pairs of similar length and are spread over single-threaded calls, one per core,
    which was faster than one call on all cores.  Thread safe.

    Args:
        model: the ONNX file.
        spec: the contract the caller works with.
        threads: cores to use; all by default.

    Raises:
        ArtifactError: the model cannot be loaded.
        SpecMismatch: the model was exported under another contract.
    """

    def __init__(self, model: Path, spec: TokenSpec, *, threads: int | None = None) -> None:
        self.spec = spec
        self.threads = threads or os.cpu_count() or 1
        self._session = open_session(model, threads=1)
        self._names = [given.name for given in self._session.get_inputs()]
        metadata = self._session.get_modelmeta().custom_metadata_map
        fingerprint = metadata.get(vespa_names.ONNX_FINGERPRINT)
        if fingerprint != spec.fingerprint:
            raise SpecMismatch(
                f"{model.name} was exported for the token contract {fingerprint or '(none)'}, "
                f"here it is {spec.fingerprint}; export the model again",
                about=model.parent,
            )
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="scorer")

    def logits(
        self, query_ids: Sequence[int], documents_ids: Sequence[Sequence[int]]
    ) -> npt.NDArray[np.float32]:
        """Return the logits [documents] of one query, in the order given."""
        return self.pairs([query_ids] * len(documents_ids), documents_ids)

    def pairs(
        self, queries_ids: Sequence[Sequence[int]], documents_ids: Sequence[Sequence[int]]
    ) -> npt.NDArray[np.float32]:
        """Return the logits [pairs] of queries and documents, row by row; higher is better."""
        lengths = [len(q) + len(d) for q, d in zip(queries_ids, documents_ids, strict=True)]
        order = sorted(range(len(lengths)), key=lambda row: lengths[row])
        batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
        logits = np.zeros(len(order), dtype=np.float32)

        def score(rows: list[int]) -> None:
            queries = [queries_ids[row] for row in rows]
            documents = [documents_ids[row] for row in rows]
            logits[rows] = self.run(pair_inputs(self.spec, queries, documents))

        # The longest first: the last batch to finish is then a short one.
        list(self._pool.map(score, reversed(batches)))
        return logits

    def run(self, inputs: ModelInputs) -> npt.NDArray[np.float32]:
        """Return the logits [pairs] of model inputs, in one call."""
        feeds = {name: inputs[name] for name in self._names}
        logits: npt.NDArray[np.float32] = self._session.run(None, feeds)[0][:, 0]
        return logits

    def close(self) -> None:
        """Stop the worker threads and free the model."""
        self._pool.shutdown()
        self._session = None
