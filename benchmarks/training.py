"""Compare ranker's trainer with that of sentence-transformers in speed and in quality.

    python benchmarks/training.py speed DATA/vaswani
    python benchmarks/training.py quality DATA/vaswani --folds 3 --epochs 1 --arm judged
    python benchmarks/training.py table
    python benchmarks/training.py memory --pairs 10000000

Needs `pip install 'sentence-transformers[train]'`.  Both trainers start from the same MiniLM.

speed: both train on the same groups (a positive and BM25 negatives) in the same order, with the
ListNet loss and in the same precision.  Runs are interleaved, and the first two steps of each round
are a warm-up.

quality: an arm is `judged` (ranker, trained on judged queries only), `warm` (ranker, pretrained on
the corpus and then trained on judged queries) or `theirs` (sentence-transformers).  The last
follows the library's documentation for a reranker: hard negatives mined with the same MiniLM,
binary cross-entropy with weighted positives, and the best epoch on held-out queries; only the
learning rate is ranker's.  With --folds the arms are cross-validated, all with the same folds and
the same held-out queries; without it they are trained on the train split and tested on the test
split.  Every arm reranks BM25's best 100.  The results are appended to `--out`.  Rerun the same
command to resume an interrupted arm.

memory: builds the token rows, the order and the batches of an epoch of synthetic pairs, six to a
group, over a million different documents, and prints the peak memory of the process.
"""

import argparse
import contextlib
import itertools
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trainers

from ranker.contract.encode import Encoder
from ranker.dataset import Dataset, load, split_queries
from ranker.dataset.folds import fold_of_queries
from ranker.dataset.groups import Negatives, TrainingGroup, judged_groups
from ranker.dataset.splits import with_queries
from ranker.files import write_json
from ranker.lexical.bm25 import BM25Index, FirstPhase
from ranker.metrics.blend import blend_run, learn_weight
from ranker.metrics.measures import Run, per_query
from ranker.metrics.significance import compare_all, intervals
from ranker.model.base import open_base
from ranker.records import Document
from ranker.train import TrainArguments
from ranker.train.batches import Batches
from ranker.train.folds.cross_validation import cross_validate
from ranker.train.loop import precision_of
from ranker.train.stages import CPU_CHUNK, TOGETHER, Stages
from ranker.train.token_store import TokenizedTexts, TokenStore

DEPTH = 100
RESULTS = Path(__file__).with_name("training.jsonl")


def main() -> None:
    """Run the subcommand of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("speed")
    verb.add_argument("collection")
    verb.add_argument("--steps", type=int, default=12)
    verb.add_argument("--rounds", type=int, default=3)
    verb.set_defaults(run=speed)
    verb = verbs.add_parser("quality")
    verb.add_argument("collection")
    verb.add_argument("--arm", choices=("judged", "warm", "theirs"), required=True)
    verb.add_argument("--folds", type=int, default=0)
    verb.add_argument("--epochs", type=int, default=3)
    verb.add_argument("--pretrain-steps", type=int, default=300)
    verb.add_argument("--document-slots", type=int, default=96)
    verb.add_argument("--work", type=Path, default=Path("work/training"))
    verb.add_argument("--out", type=Path, default=RESULTS)
    verb.set_defaults(run=quality)
    verb = verbs.add_parser("table")
    verb.add_argument("--out", type=Path, default=RESULTS)
    verb.set_defaults(run=show)
    verb = verbs.add_parser("memory")
    verb.add_argument("--pairs", type=int, default=10_000_000)
    verb.set_defaults(run=memory)
    given = parser.parse_args()
    given.run(given)


def speed(given: argparse.Namespace) -> None:
    """Time both trainers and print a table."""
    arguments = TrainArguments()
    dataset = load(given.collection, skip_bad=True)
    index = FirstPhase(BM25Index(dataset.documents.values()))
    negatives = Negatives(count=arguments.negatives, depth=arguments.negatives_depth)
    every = judged_groups(dataset, index, negatives=negatives, seed=0)
    groups = list(itertools.islice(every, given.steps * arguments.batch_size))
    base = open_base(arguments.base, head="cls")
    encoder = Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)
    pairs = arguments.batch_size * (1 + arguments.negatives)
    runs: dict[str, Callable[[], list[float]]] = {
        "ranker": lambda: trainers.our_steps(base, encoder, groups, arguments),
        "sentence-transformers": lambda: trainers.their_steps(base, encoder, groups, arguments),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(given.rounds):
        for name in sorted(runs, reverse=bool(round_ % 2)):
            seconds[name] += runs[name]()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{len(groups)} groups of {1 + arguments.negatives} pairs, {precision_of(arguments)}")
    for name, value in medians.items():
        print(f"{name:24} {pairs / value:8.1f} pairs/s  (median of {len(seconds[name])} steps)")
    print(f"ratio {medians['sentence-transformers'] / medians['ranker']:.2f}")


class Work:
    """A collection, the arguments of one arm, and the folder of its results so far."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.arm, self.folds = given.arm, given.folds
        self.name = Path(given.collection).stem
        self.arguments = TrainArguments(
            epochs=given.epochs,
            cv=given.folds,
            pretrain=given.arm == "warm",
            pretrain_steps=given.pretrain_steps,
        )
        split = None if given.folds else "train"
        self.dataset = load(given.collection, split=split, skip_bad=True)
        base = open_base(self.arguments.base)
        slots = given.document_slots
        spec = base.spec(query_slots=32, document_slots=slots)
        self.encoder = Encoder(spec, base.tokenizer_json)
        self.stages = Stages(
            base,
            self.dataset,
            self.encoder,
            self.arguments,
            _tell,
            directory=Path(tempfile.gettempdir()),
        )
        self.judged = (
            self.dataset if given.folds else load(given.collection, split="test", skip_bad=True)
        )
        options = (given.folds, given.epochs, given.arm, given.pretrain_steps, slots)
        self.folder = given.work / "-".join(map(str, (self.name, *options)))
        self.folder.mkdir(parents=True, exist_ok=True)


def quality(given: argparse.Namespace) -> None:
    """Train an arm, rank queries it was not trained on, and append nDCG@10 of every query."""
    work = Work(given)
    began = time.monotonic()
    if work.arm == "theirs":
        runs, facts = _theirs(work)
    elif work.folds:
        runs, facts = _ours_by_folds(work)
    else:
        runs, facts = _ours_by_split(work)
    facts |= {
        "collection": work.name,
        "how": f"{work.folds} folds" if work.folds else "test split",
        "arm": work.arm,
        "epochs": given.epochs,
        "document_slots": given.document_slots,
        "seconds": round(time.monotonic() - began),
    }
    rows = [
        facts | {"run": name, "ndcg@10": per_query(work.judged.qrels, run, ["nDCG@10"])["nDCG@10"]}
        for name, run in runs.items()
    ]
    with given.out.open("a", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    for row in rows:
        print(
            f"{work.name} {work.arm} {row['run']}: {statistics.fmean(row['ndcg@10'].values()):.4f}"
        )


def _ours_by_folds(work: Work) -> tuple[dict[str, Run], dict[str, Any]]:
    found = cross_validate(work.stages, work.dataset, work.folder, workers=1)
    steps = sum(len(record["history"]) for record in found.records)
    before = sum(stage.history[-1]["step"] for stage in found.before)
    return found.runs, _facts(work, steps, before, found.blend_weight)


def _ours_by_split(work: Work) -> tuple[dict[str, Run], dict[str, Any]]:
    learned, held_out = _held_out(work, work.dataset)
    queries = work.stages.queries(work.judged, DEPTH)
    _, forward = work.stages.start()
    base = _kept(work.folder / "test.json", lambda: queries.scores(forward))
    runs: dict[str, Run] = {"bm25": queries.bm25, "base": base}
    start = work.stages.before_judgements(
        lambda: work.stages.queries(learned), work.folder, always=False
    )
    _, forward = work.stages.start(start.weights.get(start.best(learned.qrels)))
    result = work.stages.learn(forward, learned, work.folder / "judged", validation=held_out)
    validation = work.stages.queries(held_out)
    weight = learn_weight(validation.qrels, validation.bm25, validation.scores(forward))
    runs["cross"] = _kept(work.folder / "cross.json", lambda: queries.scores(forward))
    runs["blend"] = blend_run(runs["bm25"], runs["cross"], weight)
    steps = len(result.history)
    return runs, _facts(
        work, steps, sum(stage.history[-1]["step"] for stage in start.results), weight
    )


def _theirs(work: Work) -> tuple[dict[str, Run], dict[str, Any]]:
    if not work.folds:
        parts = [(work.dataset, work.judged)]
    else:
        numbers = fold_of_queries(work.dataset, folds=work.folds, seed=work.arguments.seed)
        parts = [
            tuple(
                with_queries(
                    work.dataset,
                    {id_ for id_, fold in numbers.items() if (fold == number) is own},
                    side=f"fold {number}",
                )
                for own in (False, True)
            )
            for number in range(work.folds)
        ]
    cross: dict[str, Mapping[str, float]] = {}
    blend: dict[str, Mapping[str, float]] = {}
    pairs, weights = 0, []
    for number, (others, own) in enumerate(parts):
        found = _kept(
            work.folder / f"{number}.json", lambda others=others, own=own: _part(work, others, own)
        )
        bm25 = work.stages.queries(own, DEPTH).bm25
        cross |= found["logits"]
        blend |= blend_run(bm25, found["logits"], found["weight"])
        pairs += found["pairs"]
        weights.append(found["weight"])
    facts = {"pairs": pairs, "pairs_pretrain": 0, "weight": statistics.median(weights)}
    return {"theirs": cross, "theirs, blend": blend}, facts


def _part(work: Work, others: Dataset, own: Dataset) -> dict[str, Any]:
    """Train sentence-transformers on one part of the queries and rank those of another."""
    learned, held_out = _held_out(work, others)
    depth = max(10, min(DEPTH, 1000 // len(held_out.qrels)))
    validation = work.stages.queries(held_out, depth)
    model, pairs = trainers.train_theirs(
        work.stages.base, work.encoder, learned, validation.bm25, held_out, work.arguments
    )
    inner = work.stages.queries(held_out)
    logits = trainers.their_logits(model, work.encoder, held_out, inner.bm25)
    found = work.stages.queries(own, DEPTH).bm25
    return {
        "pairs": pairs,
        "weight": learn_weight(held_out.qrels, inner.bm25, logits),
        "logits": trainers.their_logits(model, work.encoder, own, found),
    }


def _held_out(work: Work, judged: Dataset) -> tuple[Dataset, Dataset]:
    arguments = work.arguments
    return split_queries(judged, held_out=arguments.held_out, seed=arguments.seed)


def _facts(work: Work, steps: int, before: int, weight: float) -> dict[str, Any]:
    size = work.arguments.batch_size * (1 + work.arguments.negatives)
    return {"pairs": steps * size, "pairs_pretrain": before * size, "weight": weight}


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """Return a result from its file; compute and save it first if needed."""
    if not path.is_file():
        write_json(path, compute())
    return json.loads(path.read_text(encoding="utf-8"))


def _tell(stage: str, step: int, steps: int, loss: float | None, ndcg: float | None) -> None:
    if ndcg is not None or step % 20 == 0:
        print(f"{time.strftime('%H:%M:%S')} {stage} {step}/{steps} {loss} {ndcg}", flush=True)


def memory(given: argparse.Namespace) -> None:
    """Build an epoch of groups, read a thousand of its batches, and print the peak memory."""
    base = open_base(TrainArguments().base)
    encoder = Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.closing(TokenizedTexts(Path(folder), encoder)) as texts:
            store = TokenStore(texts, lambda group: group.grades)
            batches = Batches(
                lambda _: _synthetic(given.pairs // 6),
                store,
                encoder.spec,
                size=8,
                seed=0,
                epochs=1,
                chunk=CPU_CHUNK,
            )
            made = time.monotonic() - began
            for at in range(0, len(batches), max(1, len(batches) // 1000)):
                batches[at]
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"{len(store):,} groups, {batches.steps:,} steps, made in {made:.0f} s")
            print(f"peak {peak:.2f} GiB")


def _synthetic(count: int) -> Iterator[list[TrainingGroup]]:
    """Yield groups of 6 from a million documents of 20 words."""
    draw = random.Random(0)
    for start in range(0, count, TOGETHER):
        yield [
            TrainingGroup(
                f"question {number} about {draw.randrange(1000)}",
                tuple(_document(draw.randrange(1_000_000)) for _ in range(6)),
                (1, 0, 0, 0, 0, 0),
                ("positive", *["hard"] * 5),
            )
            for number in range(start, min(start + TOGETHER, count))
        ]


def _document(number: int) -> Document:
    return Document(str(number), f"title {number}", f"some words of a document {number} " * 3)


def show(given: argparse.Namespace) -> None:
    """Print a table for each collection; of several equal runs, the last one counts."""
    tables: dict[tuple[str, str, int, int], dict[str, dict[str, Any]]] = {}
    for line in given.out.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        names = {"cross": row["arm"], "blend": f"{row['arm']}, blend"}
        name = names.get(row["run"], row["run"])
        key = (row["collection"], row["how"], row["epochs"], row.get("document_slots", 96))
        tables.setdefault(key, {})[name] = row
    for (collection, how, epochs, slots), rows in tables.items():
        values = {name: row["ndcg@10"] for name, row in rows.items()}
        pairs = [("bm25", name) for name in values if name != "bm25"]
        compared = compare_all(values, pairs, measure="nDCG@10")
        against = {row["profile"]: row for row in compared}
        run = f"{how}, {epochs} epochs, {slots} document slots"
        print(f"\n{collection}, {run}, {len(values['bm25'])} queries")
        print("| | nDCG@10 | 95 % | - bm25 | 95 % | p (Holm) | judged pairs | pretraining | s |")
        print("|---|---|---|---|---|---|---|---|---|")
        ids = list(values["bm25"])
        spans = intervals(np.array([[row[id_] for id_ in ids] for row in values.values()]))
        for (name, row), span in zip(rows.items(), spans, strict=True):
            print(_line(name, row, span, against.get(name)))
        _show_against_theirs(values)


def _show_against_theirs(values: Mapping[str, Mapping[str, float]]) -> None:
    """Print how far ranker is ahead of sentence-transformers, alone and as a blend."""
    arms = [arm for arm in ("judged", "warm") if arm in values and "theirs" in values]
    pairs = [(f"theirs{form}", f"{arm}{form}") for form in ("", ", blend") for arm in arms]
    print()
    for row in compare_all(values, pairs, measure="nDCG@10"):
        low, high = row["interval"]
        print(
            f"- {row['profile']} - {row['baseline']}: {row['mean_difference']:+.4f} "
            f"[{low:+.4f}, {high:+.4f}], p (Holm) {row['p_holm']:.4f}"
        )


def _line(name: str, row: dict[str, Any], span: Any, against: Any) -> str:
    mean = statistics.fmean(row["ndcg@10"].values())
    cells = [name, f"{mean:.4f}", f"[{span[0]:.3f}, {span[1]:.3f}]", "", "", "", "", "", ""]
    if against:
        low, high = against["interval"]
        cells[3:6] = [
            f"{against['mean_difference']:+.4f}",
            f"[{low:+.4f}, {high:+.4f}]",
            f"{against['p_holm']:.4f}",
        ]
    if name not in ("bm25", "base"):
        cells[6:] = [f"{row['pairs']:,}", f"{row['pairs_pretrain']:,}", str(row["seconds"])]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
