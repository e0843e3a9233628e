"""The way from judged data to a served, evaluated reranker, as Python functions.

`import ranker` offers these lazily: each function loads what it needs when it is called.  Paths
may be strings.  Every error that a user can cause is a `ranker.RankerError` of one line.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.client.search import Client
from ranker.errors import UsageError
from ranker.export.reranker import RankedText, Reranker
from ranker.records import Document

if TYPE_CHECKING:
    from ranker.artifacts.bundle import Bundle, Checkpoint
    from ranker.dataset import Dataset
    from ranker.deploy import Deployment
    from ranker.evaluate import Evaluation
    from ranker.feed import FeedReport
    from ranker.package.application import Package

    Result = str | Path | Evaluation | Checkpoint | Bundle

__all__ = [
    "Client",
    "RankedText",
    "Reranker",
    "deploy",
    "evaluate",
    "export",
    "feed",
    "load",
    "package",
    "report",
    "train",
]


def load(
    data: str | Path,
    *,
    split: str | None = None,
    format: str | None = None,
    skip_bad: bool = False,
) -> "Dataset":
    """Read judged data: queries, documents and their grades.

    Args:
        data: a BEIR or TREC folder, a CSV, TSV, JSON lines or parquet file, or an `ir_datasets` id.
        split: one of the data's splits, such as `train` or `test`; None for all of them.
        format: a format's name, where it is not to be detected.
        skip_bad: leave malformed rows out, and count them in the log, instead of raising.

    Raises:
        DataError: the data cannot be read; the message names file, line and reason.
    """
    from ranker.dataset import load as run

    return run(data, split=split, format=format, skip_bad=skip_bad)


def train(
    data: "str | Path | Dataset",
    out: str | Path,
    *,
    on_progress: Callable[..., None] = lambda *_: None,
    **options: Any,
) -> "Checkpoint":
    """Fine-tune a cross-encoder on judged queries and write its checkpoint.

    Call it again with the same arguments to resume an interrupted training.

    Args:
        data: judged data, or its path, of which the split `train` is read where there is one.
        out: folder of the checkpoint.
        on_progress: called as `on_progress(stage, step, steps, loss, value)`, with a loss or a
            value of the task's measure.
        options: fields of `TrainArguments` (`from ranker.train import TrainArguments`), such as
            `base`, `epochs` or `cv`.

    Raises:
        UsageError: an option is unknown, or makes no sense.
        DataError: the judgements cannot be learned from.
        ArtifactError: `out` holds something else.
        TrainError: training cannot continue.
    """
    from ranker.dataset import default_split
    from ranker.dataset import load as read
    from ranker.model.provenance import DataProvenance
    from ranker.train import TrainArguments
    from ranker.train import train as run

    known = TrainArguments.__dataclass_fields__
    if unknown := sorted(set(options) - set(known)):
        raise UsageError(f"training has no option {', '.join(unknown)}; it has: {', '.join(known)}")
    named = {name: str(value) for name, value in options.items() if isinstance(value, Path)}
    arguments = TrainArguments(**options | named)
    source = None
    if isinstance(data, str | Path):
        split = default_split(data, "train")
        source = DataProvenance.of(str(data), split=split)
        data = read(data, split=split)
    return run(data, Path(out), arguments=arguments, source=source, on_progress=on_progress)


def export(
    checkpoint: "str | Path | Checkpoint",
    out: str | Path,
    *,
    force: bool = False,
) -> "Bundle":
    """Export a checkpoint to a bundle: an ONNX model whose logits equal torch's within 1e-4.

    Args:
        checkpoint: a checkpoint or its folder, or an existing cross-encoder with one logit: its
            folder or its Hugging Face id.
        out: folder of the bundle.
        force: export a model that cross-validation did not find to be better than BM25.

    Raises:
        ExportError: the model is not better than BM25, or the export is not equal to it.
        ArtifactError: `out` holds something else, or the checkpoint was changed.
    """
    from ranker.export.to_onnx import export as run
    from ranker.model.interchange import open_model

    opened = open_model(checkpoint) if isinstance(checkpoint, str | Path) else checkpoint
    return run(opened, Path(out), force=force)


def package(
    bundle: "str | Path | Bundle",
    out: str | Path,
    *,
    application: str = "ranker",
    storage: str = "float",
) -> "Package":
    """Write the Vespa application package of a bundle.

    Args:
        bundle: a bundle or its folder.
        out: folder of the application package.
        application: its name in Vespa.
        storage: how Vespa stores token ids; int8 takes half the memory of float.

    Raises:
        UsageError: the storage is unknown.
        SpecError: the storage does not hold every id of the vocabulary.
        ArtifactError: `out` holds something else, or the bundle was changed.
    """
    from ranker.artifacts.bundle import Bundle
    from ranker.contract.storage import STORAGES
    from ranker.package.application import write

    if storage not in STORAGES:
        raise UsageError(f"storage must be one of {', '.join(STORAGES)}, got {storage!r}")
    opened = Bundle.open(Path(bundle)) if isinstance(bundle, str | Path) else bundle
    return write(opened, Path(out), application=application, storage=STORAGES[storage])


def deploy(
    package: "str | Path | Package", target: str = "embedded", **options: Any
) -> "Deployment":
    """Deploy an application package.

    Args:
        package: the package or its folder.
        target: `embedded`, `docker`, `server` or `cloud`.
        options: of the target, as `ranker deploy --help` lists them: `data` and `port` of the
            embedded engine, which runs until `Deployment.stop`.

    Raises:
        UsageError: the target is unknown, or has no such option.
        EndpointError: the target is not there, or refuses the package.
    """
    from ranker.deploy import deploy as run

    paths = {"data", "key", "log"}
    given = {name: Path(value) if name in paths else value for name, value in options.items()}
    return run(_folder(package), target, **given)


def feed(
    documents: "str | Path | Dataset | Iterable[Document]",
    client: Client,
    *,
    on_progress: Callable[..., None] | None = None,
) -> "FeedReport":
    """Tokenize documents and feed them; every one is accounted for.

    Args:
        documents: judged data, a corpus or Vespa's own document lines by path, or documents.
        client: of the endpoint.
        on_progress: called as `on_progress(done, total, rate)`.

    Raises:
        DataError: the documents cannot be read.
        FeedError: not every document arrived; the message names those that did not.
        EndpointError: nothing answers at the endpoint.
    """
    from ranker.dataset import Dataset
    from ranker.feed import feed as run
    from ranker.feed import read_documents

    source: Iterable[Any]
    if isinstance(documents, str | Path):
        source = read_documents(documents)
    else:
        source = documents.documents.values() if isinstance(documents, Dataset) else documents
    tally = run(source, client.app, client.url, on_progress=on_progress)
    tally.require_complete()
    return tally


def evaluate(
    data: "str | Path | Dataset",
    client: Client,
    out: str | Path,
    *,
    profiles: Sequence[str] | str | None = None,
    **options: Any,
) -> "Evaluation":
    """Run rank profiles over judged queries: TREC runs, latencies, measures, comparisons.

    Args:
        data: judged data, or its path, of which the split `test` is read where there is one.
        client: of the endpoint.
        out: folder of the evaluation.
        profiles: rank profiles; by default all but those of the global phase.
        options: `hits`, `measures`, `timeout_s`, `concurrency` or `baseline` of
            `ranker.evaluate.evaluate`.

    Raises:
        UsageError: the application has no such profile.
        EvaluationError: a query failed, so that there is no honest figure.
    """
    from ranker.dataset import default_split
    from ranker.dataset import load as read
    from ranker.evaluate import evaluate as run

    if isinstance(data, str | Path):
        data = read(data, split=default_split(data, "test"))
    if isinstance(profiles, str):
        profiles = [profiles]
    return run(data, client, profiles=profiles, out=Path(out), **options)


def report(results: "Sequence[Result] | Result", out: str | Path) -> Path:
    """Write one self-contained HTML page about evaluations, checkpoints and bundles.

    Args:
        results: one of them or its folder, or several in any mix.
        out: the HTML file; JSON of the same name is written next to it.

    Raises:
        ArtifactError: a folder is none of these, or `out` cannot be written.
    """
    from ranker.report import page

    if isinstance(results, str) or not isinstance(results, Sequence):
        results = [results]
    return page([_folder(result) for result in results], Path(out))


def _folder(artifact: "str | Path | Package | Evaluation | Checkpoint | Bundle") -> Path:
    """Return the folder of an artifact, or the path as it was given."""
    return Path(artifact) if isinstance(artifact, str | Path) else Path(artifact.path)
