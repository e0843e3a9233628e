"""The ONNX Runtime of a Vespa release, and the reasons why it would not load a model file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ranker.contract.vespa_names import LARGEST_MODEL
from ranker.errors import VerifyError, require

if TYPE_CHECKING:
    from onnx import GraphProto, TensorProto

__all__ = ["OnnxRuntime", "model_problems", "runtime_of"]


@dataclass(frozen=True)
class OnnxRuntime:
    """A release of ONNX Runtime: the newest file format and operators that it loads."""

    version: str
    largest_ir: int
    largest_opset: int


_RUNTIMES = {
    (8, 100, 20): OnnxRuntime("1.12.1", 8, 17),
    (8, 250, 43): OnnxRuntime("1.16.1", 9, 19),
    (8, 350, 38): OnnxRuntime("1.18.0", 10, 21),
    (8, 550, 14): OnnxRuntime("1.22.0", 10, 22),
    (8, 650, 16): OnnxRuntime("1.23.2", 11, 23),
    (8, 706, 52): OnnxRuntime("1.26.0", 13, 26),
}
"""By the first Vespa release with it (`dist/vespa.spec`).  Limits from 1.22 on were measured by
loading models; those of older ones are from ONNX Runtime's compatibility table."""


def runtime_of(vespa_version: str) -> OnnxRuntime:
    """Return the ONNX Runtime of a Vespa release.

    Raises:
        VerifyError: the release is older than those known.
    """
    try:
        wanted = tuple(int(part) for part in vespa_version.split("."))
    except ValueError as error:
        raise VerifyError(
            f"expected a Vespa version like 8.700.24, got {vespa_version!r}"
        ) from error
    known = [release for release in _RUNTIMES if release <= wanted]
    if not known:
        oldest = ".".join(str(part) for part in min(_RUNTIMES))
        raise VerifyError(f"Vespa {vespa_version} is too old: {oldest} is the oldest known release")
    return _RUNTIMES[max(known)]


def model_problems(model: Path, vespa_version: str) -> list[str]:
    """Write the reasons why Vespa would not load a model file, one line each.

    Raises:
        MissingExtra: the library `onnx` is not installed.
        VerifyError: the Vespa release is unknown.
    """
    runtime = runtime_of(vespa_version)
    size = model.stat().st_size
    if size >= LARGEST_MODEL:
        return [f"{model.name} has {size} bytes, Vespa takes models below {LARGEST_MODEL} bytes"]
    onnx = require("onnx", extra="export")
    try:
        loaded = onnx.load(str(model), load_external_data=False)
    except Exception as error:  # protobuf's own classes
        return [f"{model.name} is not an ONNX model: {error}"]
    opsets = [item.version for item in loaded.opset_import if item.domain in ("", "ai.onnx")]
    problems = [
        f"{model.name} has {what} {version}; ONNX Runtime {runtime.version} of Vespa "
        f"{vespa_version} loads at most {largest}; export it with opset 17 and IR 8"
        for what, version, largest in (
            ("IR version", loaded.ir_version, runtime.largest_ir),
            ("opset", max(opsets, default=0), runtime.largest_opset),
        )
        if version > largest
    ]
    is_external = onnx.external_data_helper.uses_external_data
    if external := [tensor.name for tensor in _tensors(loaded.graph) if is_external(tensor)]:
        problems.append(
            f"{len(external)} weights are stored outside the model file (first: {external[0]}); "
            "Vespa takes one self-contained file"
        )
    return problems


def _tensors(graph: "GraphProto") -> "Iterator[TensorProto]":
    """Yield weights and constants of a graph and of the graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
