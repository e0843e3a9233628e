"""The steps that every scenario shares, each a few calls of the library.

A scenario is a script next to this file and a TOML file of the same name: a table `train` with
the arguments of training, and a table `evaluate` with profiles and hits.
"""

import contextlib
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ranker.artifacts.bundle import Checkpoint
from ranker.client.search import App, Client
from ranker.dataset import Dataset
from ranker.deploy import deploy
from ranker.evaluate import Evaluation, evaluate
from ranker.export.to_onnx import export
from ranker.feed import feed
from ranker.package.application import Package, write
from ranker.report import page
from ranker.train import TrainArguments, train


def read_settings(script: str) -> dict[str, Any]:
    """The settings of a scenario: the TOML file next to its script."""
    return tomllib.loads(Path(script).with_suffix(".toml").read_text(encoding="utf-8"))


def build(judged: Dataset, settings: dict[str, Any], work: Path) -> tuple[Checkpoint, Package]:
    """Judged queries to an application package: train, export, package."""
    say(f"training on {len(judged.qrels)} queries over {len(judged.documents)} documents")
    arguments = TrainArguments(**settings["train"])
    checkpoint = train(judged, work / "checkpoint", arguments=arguments, on_progress=show_training)
    held_out = checkpoint.training["held_out"]
    say(
        f"held-out queries of training: bm25 {held_out['bm25']:.3f}, "
        f"cross {held_out['cross']:.3f}, blend {held_out['blend']:.3f} nDCG@10; "
        f"recommended profile: {checkpoint.training['recommended_profile']}"
    )
    say("exporting to ONNX and comparing with torch")
    bundle = export(checkpoint, work / "bundle")
    say("writing the Vespa application package")
    return checkpoint, write(bundle, work / "app")


@contextlib.contextmanager
def served(package: Package, work: Path, *, port: int) -> Iterator[Client]:
    """The application on the embedded engine, as a process that ends with the block."""
    say(f"starting the embedded engine on port {port}")
    # Documents of an earlier run may be of another contract or another version.
    shutil.rmtree(work / "data", ignore_errors=True)
    deployment = deploy(package.path, "embedded", data=work / "data", port=port)
    try:
        with Client(deployment.url, App.open(package.path)) as client:
            yield client
    finally:
        if deployment.process is not None:
            deployment.process.terminate()
            deployment.process.wait()


def fill(client: Client, corpus: Dataset) -> None:
    """Feed every document, pretokenized; one that did not arrive is an error."""
    say(f"feeding {len(corpus.documents)} documents")
    account = feed(
        corpus.documents.values(), client.app, client.url, on_progress=show_count("documents")
    )
    account.require_complete()
    say(account.summary())


def measure(client: Client, test: Dataset, settings: dict[str, Any], work: Path) -> Evaluation:
    """Evaluate the profiles on queries that training did not see."""
    say(f"evaluating {len(test.qrels)} queries with {', '.join(settings['evaluate']['profiles'])}")
    return evaluate(
        test,
        client,
        **settings["evaluate"],
        out=work / "evaluation",
        on_progress=lambda done, total: show_count("queries")(done, total, 0.0),
    )


def conclude(evaluation: Evaluation, checkpoint: Checkpoint, work: Path) -> Path:
    """Print the table and write the page."""
    report = page([evaluation.path, checkpoint.path, work / "bundle"], work / "report.html")
    print(f"\n{len(next(iter(evaluation.latencies_ms().values())))} queries held out of training")
    print(f"{'profile':14}" + "".join(f"{name:>11}" for name in evaluation.measures) + "  ms")
    for profile in evaluation.profiles:
        values = "".join(f"{evaluation.mean(profile, name):11.4f}" for name in evaluation.measures)
        latencies = sorted(evaluation.latencies_ms()[profile])
        print(f"{profile:14}{values}{latencies[len(latencies) // 2]:5.0f}")
    for row in evaluation.comparisons:
        low, high = row["interval"]
        print(
            f"{row['profile']} - {row['baseline']}: {row['mean_difference']:+.4f} {row['measure']}"
            f" [{low:+.4f}, {high:+.4f}], p = {row['p_holm']:.3f}"
        )
    return report


def show_turns(evaluation: Evaluation, test: Dataset, profile: str, *, most: int = 4) -> None:
    """Print the questions whose first answer moved most against BM25, up and down."""
    before, after = (evaluation.per_query(name, "RR") for name in ("bm25", profile))
    order = sorted(after, key=lambda id_: before[id_] - after[id_])
    up = [id_ for id_ in order if after[id_] > before[id_]]
    down = [id_ for id_ in reversed(order) if after[id_] < before[id_]]
    print(f"\nrank of the first answer among {len(order)} questions, bm25 -> {profile}")
    for title, ids in (("better", up), ("worse", down)):
        print(f"{title} for {len(ids)}, most for:")
        for id_ in ids[:most]:
            ranks = (f"{1 / row[id_]:.0f}" if row[id_] else "none" for row in (before, after))
            print("  {:>4} -> {:>4}  {}".format(*ranks, test.queries[id_].text))


def show_hits(client: Client, question: str, profile: str, *, hits: int = 5) -> None:
    """Print the best documents of one profile for a question."""
    print(f"\n{profile}: {question}")
    for rank, hit in enumerate(client.search(question, profile=profile, hits=hits).hits, start=1):
        print(f"  {rank}. {hit.relevance:7.2f}  {hit.doc_id}")


def say(line: str) -> None:
    """Say what happens next, on stderr."""
    sys.stderr.write(f"\n== {line}\n")
    sys.stderr.flush()


def show_training(
    stage: str, step: int, steps: int, loss: float | None, value: float | None
) -> None:
    """Progress of training: a line at every tenth of a stage, and at every evaluation."""
    if value is not None:
        of = ("MRR", "documents") if stage == "pretrain" else ("nDCG@10", "queries")
        sys.stderr.write(f"   {stage} {step}/{steps}: {of[0]} {value:.3f} on held-out {of[1]}\n")
    elif loss is not None and step % max(1, steps // 10) == 0:
        sys.stderr.write(f"   {stage} {step}/{steps}: loss {loss:.3f}\n")


def show_count(what: str) -> Any:
    """A progress callback that rewrites one line where stderr is a terminal."""

    def show(done: int, total: int | None, rate: float) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r   {done}{f'/{total}' if total else ''} {what}")
            sys.stderr.flush()

    return show
