"""Run the two trainers that `training.py` compares on the same data."""

import contextlib
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ranker.contract.encode import Encoder, document_text
from ranker.dataset import Dataset
from ranker.dataset.groups import TrainingGroup
from ranker.metrics.measures import Run
from ranker.model.base import Base, load_weights
from ranker.model.forward import forward_of
from ranker.model.losses import LOSSES
from ranker.model.task import RELEVANCE
from ranker.train import TrainArguments
from ranker.train.batches import Batches
from ranker.train.loop import precision_of, run_stage
from ranker.train.stages import CPU_CHUNK
from ranker.train.token_store import TokenizedTexts, TokenStore

__all__ = ["our_steps", "their_logits", "their_steps", "train_theirs"]

WARM_UP = 2
"""Number of steps at the start that are not timed."""


def our_steps(
    base: Base, encoder: Encoder, groups: list[TrainingGroup], arguments: TrainArguments
) -> list[float]:
    """Return the seconds of each step of ranker after the warm-up."""
    model = load_weights(base.source, dropout=arguments.dropout)
    forward, _ = forward_of(model, segments=encoder.spec.segments, fused=True)
    ticks: list[float] = []
    loss = LOSSES[arguments.loss]
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.closing(TokenizedTexts(Path(folder), encoder)) as texts,
    ):
        batches = Batches(
            lambda _: [groups],
            TokenStore(texts, lambda group: loss.targets(group, 1)),
            encoder.spec,
            size=arguments.batch_size,
            seed=0,
            epochs=1,
            chunk=CPU_CHUNK,
        )
        run_stage(
            forward,
            batches,
            None,
            stage="judged",
            learning_rate=arguments.learning_rate,
            loss=lambda outputs, *others: loss.function(RELEVANCE.logits(outputs), *others),
            arguments=arguments,
            folder=Path(folder),
            on_progress=lambda *_: ticks.append(time.perf_counter()),
        )
    return _intervals(ticks)


def their_steps(
    base: Base, encoder: Encoder, groups: list[TrainingGroup], arguments: TrainArguments
) -> list[float]:
    """Return the seconds of each step of sentence-transformers after the warm-up."""
    import datasets
    import transformers
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    ticks: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            ticks.append(time.perf_counter())

    model = _their_model(base, encoder)
    rows = {
        "query": [group.query for group in groups],
        "documents": [[document_text(d, encoder.spec) for d in g.documents] for g in groups],
        "labels": [[float(grade) for grade in group.grades] for group in groups],
    }
    with tempfile.TemporaryDirectory() as folder:
        settings = _their_settings(arguments, folder, size=arguments.batch_size, save_strategy="no")
        _their_trainer(
            model,
            settings,
            train_dataset=datasets.Dataset.from_dict(rows),
            loss=ListNetLoss(model),
            callbacks=[Clock()],
        ).train()
    return _intervals(ticks)


def train_theirs(
    base: Base,
    encoder: Encoder,
    learned: Dataset,
    watched: Run,
    held_out: Dataset,
    arguments: TrainArguments,
) -> tuple[Any, int]:
    """Train a reranker as the documentation of sentence-transformers does.

    Args:
        base: the weights to start from, which are also used to mine hard negatives.
        encoder: the encoder that selects the text, so that both trainers read the same fields.
        learned: the judged queries to train on.
        watched: BM25's best documents for the held-out queries, on which the best epoch is chosen.
        held_out: the held-out queries.
        arguments: the arguments of ranker's arms: epochs, pairs in a step, negatives, seed and
            learning rate.  With the 2e-5 of the library's examples, MiniLM learns next to nothing
            in a few hundred steps.

    Returns:
        The trained model and the number of pairs it was trained on.
    """
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderRerankingEvaluator
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    rows = _mined(base, encoder, learned, negatives=arguments.negatives)
    model = _their_model(base, encoder)
    evaluator = CrossEncoderRerankingEvaluator(
        samples=[
            {
                "query": held_out.queries[query_id].text,
                "positive": _texts(held_out, _relevant(held_out, query_id), encoder),
                "documents": _texts(held_out, found, encoder),
            }
            for query_id, found in watched.items()
        ],
        name="held-out",
        always_rerank_positives=False,
        write_csv=False,
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = _their_settings(
            arguments,
            folder,
            size=arguments.batch_size * (1 + arguments.negatives),
            num_train_epochs=arguments.epochs,
            seed=arguments.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="eval_held-out_ndcg@10",
        )
        weight = torch.tensor(float(arguments.negatives))
        _their_trainer(
            model,
            settings,
            train_dataset=rows,
            loss=BinaryCrossEntropyLoss(model, pos_weight=weight),
            evaluator=evaluator,
        ).train()
    return model, len(rows) * arguments.epochs


def their_logits(
    model: Any, encoder: Encoder, dataset: Dataset, found: Run
) -> dict[str, dict[str, float]]:
    """Return the logit of every retrieved document, in bfloat16 where ranker uses it."""
    pairs = [(query_id, doc_id) for query_id, row in found.items() for doc_id in row]
    texts = [
        (dataset.queries[query_id].text, document_text(dataset.documents[doc_id], encoder.spec))
        for query_id, doc_id in pairs
    ]
    with torch.autocast("cpu", torch.bfloat16, enabled=precision_of(TrainArguments()) == "bf16"):
        scores = model.predict(texts, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    logits: dict[str, dict[str, float]] = {query_id: {} for query_id in found}
    for (query_id, doc_id), score in zip(pairs, scores, strict=True):
        logits[query_id][doc_id] = float(score)
    return logits


def _mined(base: Base, encoder: Encoder, learned: Dataset, *, negatives: int) -> Any:
    """Return labelled pairs: every positive, and the other documents nearest to the query."""
    import datasets
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    pairs = [
        (learned.queries[query_id].text, text)
        for query_id in learned.qrels
        for text in _texts(learned, _relevant(learned, query_id), encoder)
    ]
    texts = [document_text(document, encoder.spec) for document in learned.documents.values()]
    # The library mines per query and ranker per positive; this gives both the same number of pairs.
    wanted = math.ceil(negatives * len(pairs) / len(learned.qrels))
    return mine_hard_negatives(
        datasets.Dataset.from_dict(
            {"query": [query for query, _ in pairs], "answer": [text for _, text in pairs]}
        ),
        SentenceTransformer(base.source, device="cpu"),
        corpus=list(dict.fromkeys(texts)),
        num_negatives=wanted,
        range_max=max(100, 2 * wanted),
        sampling_strategy="top",
        output_format="labeled-pair",
        verbose=False,
    )


def _their_model(base: Base, encoder: Encoder) -> Any:
    from sentence_transformers.cross_encoder import CrossEncoder

    return CrossEncoder(base.source, num_labels=1, max_length=encoder.spec.length, device="cpu")


def _their_settings(arguments: TrainArguments, folder: str, *, size: int, **others: Any) -> Any:
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

    settings = {
        "output_dir": folder,
        "per_device_train_batch_size": size,
        "num_train_epochs": 1,
        "learning_rate": arguments.learning_rate,
        "warmup_steps": arguments.warmup_ratio,
        "bf16": precision_of(arguments) == "bf16",
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
    }
    return CrossEncoderTrainingArguments(**(settings | others))


def _their_trainer(model: Any, settings: Any, **others: Any) -> Any:
    from sentence_transformers.cross_encoder import CrossEncoderTrainer

    return CrossEncoderTrainer(model=model, args=settings, **others)


def _relevant(dataset: Dataset, query_id: str) -> list[str]:
    return [doc_id for doc_id, grade in dataset.qrels[query_id].items() if grade >= 1]


def _texts(
    dataset: Dataset, doc_ids: Mapping[str, float] | list[str], encoder: Encoder
) -> list[str]:
    return [document_text(dataset.documents[doc_id], encoder.spec) for doc_id in doc_ids]


def _intervals(ticks: list[float]) -> list[float]:
    """Return the seconds between successive steps, without those of the warm-up."""
    every = [later - earlier for earlier, later in zip(ticks, ticks[1:], strict=False)]
    return every[WARM_UP - 1 :]
