"""The ONNX Runtime of a Vespa release, and whether it loads a model file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.contract.vespa_names import LARGEST_MODEL
from ranker.errors import VerifyError, require

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
"""From which Vespa release on (`dist/vespa.spec`).  Limits of 1.22 and later were measured by
loading models; those of older ones are ONNX Runtime's compatibility table."""


def runtime_of(vespa_version: str) -> OnnxRuntime:
    """The ONNX Runtime of a Vespa release.

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
        raise VerifyError(f"Vespa {vespa_version} is too old: {oldest} is the oldest known here")
    return _RUNTIMES[max(known)]


def model_problems(model: Path, vespa_version: str) -> list[str]:
    """Why Vespa would not load a model file, one line each.

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
    return [*_format_problems(loaded, model.name, runtime, vespa_version), *_external(loaded, onnx)]


def _format_problems(loaded: Any, name: str, runtime: OnnxRuntime, vespa_version: str) -> list[str]:
    ours = [item.version for item in loaded.opset_import if item.domain in ("", "ai.onnx")]
    opset = max(ours, default=0)
    problems = []
    for what, found, largest in (
        ("IR version", loaded.ir_version, runtime.largest_ir),
        ("opset", opset, runtime.largest_opset),
    ):
        if found > largest:
            problems.append(
                f"{name} has {what} {found}; ONNX Runtime {runtime.version} of Vespa "
                f"{vespa_version} loads at most {largest}; export it with opset 17 and IR 8"
            )
    return problems


def _external(loaded: Any, onnx: Any) -> list[str]:
    tensors = [t for t in _tensors(loaded.graph) if onnx.external_data_helper.uses_external_data(t)]
    if not tensors:
        return []
    return [
        f"{len(tensors)} weights lie outside the model file (first: {tensors[0].name}); "
        "Vespa takes one self-contained file"
    ]


def _tensors(graph: Any) -> Iterator[Any]:
    """Weights and constants of a graph and of the graphs inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
