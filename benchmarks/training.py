"""Training speed: ranker's trainer against sentence-transformers' on the same groups.

    python benchmarks/training.py COLLECTION [--steps 12] [--rounds 3]

Needs `pip install 'sentence-transformers[train]'`.  Both start from the same MiniLM, learn the
same groups (a positive and BM25 negatives) in the same order with ListNet's loss, in the same
precision; sentence-transformers as its documentation sets it up.  Interleaved; the first two
steps of each round warm up.  Prints pairs in a second and the ratio of medians.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ranker.dataset import load
from ranker.dataset.groups import Group, Negatives, judged_groups
from ranker.encode import Encoder, document_text
from ranker.forward import forward_of
from ranker.lexical import BM25Index
from ranker.model import Base, load_weights, open_base
from ranker.train import TrainArguments
from ranker.train.batches import Batches, encode_groups, plan
from ranker.train.loop import run_stage, uses_bfloat16
from ranker.train.stages import CPU_CHUNK

WARM_UP = 2


def main() -> None:
    """Time both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    arguments = TrainArguments()
    dataset = load(given.collection, skip_bad=True)
    index = BM25Index(dataset.documents.values())
    negatives = Negatives(count=arguments.negatives, depth=arguments.depth)
    groups = judged_groups(dataset, index, negatives=negatives, seed=0)
    groups = groups[: given.steps * arguments.groups]
    base = open_base(arguments.base)
    encoder = Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)
    pairs = arguments.groups * (1 + arguments.negatives)
    runs: dict[str, Callable[[], list[float]]] = {
        "ranker": lambda: ours(base, encoder, groups, arguments),
        "sentence-transformers": lambda: theirs(base, encoder, groups, arguments),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(given.rounds):
        for name in sorted(runs, reverse=bool(round_ % 2)):
            seconds[name] += runs[name]()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    precision = "bf16" if uses_bfloat16(arguments) else "fp32"
    print(f"{len(groups)} groups of {1 + arguments.negatives} pairs, {precision}")
    for name, value in medians.items():
        print(f"{name:24} {pairs / value:8.1f} pairs/s  (median of {len(seconds[name])} steps)")
    print(f"ratio {medians['sentence-transformers'] / medians['ranker']:.2f}")


def ours(
    base: Base, encoder: Encoder, groups: list[Group], arguments: TrainArguments
) -> list[float]:
    """Seconds of each step after the warm-up."""
    model = load_weights(base.source, dropout=arguments.dropout)
    forward, _ = forward_of(model, segments=encoder.spec.segments, fused=True)
    batches = plan(encode_groups(groups, encoder), size=arguments.groups, seed=0)
    ticks: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run_stage(
            forward,
            Batches(batches, encoder, chunk=CPU_CHUNK),
            None,
            stage="judged",
            learning_rate=arguments.learning_rate,
            arguments=arguments,
            work=Path(folder),
            on_progress=lambda *_: ticks.append(time.perf_counter()),
        )
    return intervals(ticks)


def theirs(
    base: Base, encoder: Encoder, groups: list[Group], arguments: TrainArguments
) -> list[float]:
    """Seconds of each step after the warm-up."""
    import datasets
    import transformers
    from sentence_transformers.cross_encoder import (
        CrossEncoder,
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
    )
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    ticks: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            ticks.append(time.perf_counter())

    model = CrossEncoder(base.source, num_labels=1, max_length=encoder.spec.length, device="cpu")
    rows = {
        "query": [group.query for group in groups],
        "documents": [[document_text(d, encoder.spec) for d in g.documents] for g in groups],
        "labels": [[float(grade) for grade in group.relevance] for group in groups],
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = CrossEncoderTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=arguments.groups,
            num_train_epochs=1,
            learning_rate=arguments.learning_rate,
            warmup_ratio=arguments.lr_warmup,
            bf16=uses_bfloat16(arguments),
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        CrossEncoderTrainer(
            model=model,
            args=settings,
            train_dataset=datasets.Dataset.from_dict(rows),
            loss=ListNetLoss(model),
            callbacks=[Clock()],
        ).train()
    return intervals(ticks)


def intervals(ticks: list[float]) -> list[float]:
    """Differences of neighbours, without those of the warm-up."""
    every = [later - earlier for earlier, later in zip(ticks, ticks[1:], strict=False)]
    return every[WARM_UP - 1 :]


if __name__ == "__main__":
    main()
