"""One stage of training: transformers' Trainer over ready batches, stopped by nDCG@10."""

import contextlib
import json
import logging
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from ranker.errors import TrainError, UsageError, require
from ranker.files import write_failure
from ranker.model.losses import LossFunction
from ranker.train import processes
from ranker.train.arguments import TrainArguments
from ranker.train.batches import Batches
from ranker.train.reranking import RerankedQueries

__all__ = ["BEST", "OnProgress", "StageResult", "precision_of", "restore", "run_stage"]

logger = logging.getLogger(__name__)

NDCG = "eval_ndcg@10"
SAVE_SECONDS = 60.0
"""Between two saves: what a kill can cost."""
HISTORY = 2_000
"""Most rows of losses that a stage keeps; a row of a longer one is the mean of several steps."""
BEST = "best.pt"
"""The weights that a stage leaves."""

OnProgress = Callable[[str, int, int, float | None, float | None], None]
"""Called with stage, steps done, steps in all, last loss, last nDCG@10."""


class _Finished(Exception):  # noqa: N818 - not an error
    """The save that a stage goes on from was made at its end: nothing is left to train."""


@dataclass(frozen=True)
class StageResult:
    """What a stage did.

    Attributes:
        stage: its name.
        history: losses, each with its step.
        evaluations: nDCG@10, each with its step.
        steps: how many were planned.
        best_step: step of the weights that it ended with.
        stopped_early: whether it ended before the last step.
        documents_by_source: how many documents of each source the groups of its epochs hold; the
            last epoch may not have been seen to its end.
    """

    stage: str
    history: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    steps: int
    best_step: int
    stopped_early: bool
    documents_by_source: dict[str, int] = field(default_factory=dict)


def run_stage(
    forward: Any,
    batches: Batches,
    held_out: RerankedQueries | None,
    *,
    stage: str,
    learning_rate: float,
    evaluate_every: int = 1,
    schedule: int | None = None,
    loss: LossFunction,
    arguments: TrainArguments,
    work: Path,
    on_progress: OnProgress,
) -> StageResult:
    """Train a module of `forward_of` in place over all batches.

    With held-out queries nDCG@10 on them is measured, the stage stops when it gets no better and
    ends with the weights of the best evaluation; without, it ends with the last weights.
    An interrupted stage goes on from its last save, and ends as it would have.

    Args:
        forward: the module.
        batches: what to learn from, a step each.
        held_out: queries to stop by; None for all the steps.
        stage: its name, for the records and for progress.
        learning_rate: its peak.
        evaluate_every: steps between two evaluations.
        schedule: steps in which the learning rate falls to 0, if not those of `batches`.
        loss: what is minimised.
        arguments: the run's.
        work: folder of the saves.
        on_progress: told of each.

    Raises:
        KeyboardInterrupt: after Ctrl-C; everything so far is saved.
        TrainError: the loss is no longer a number, or the disk or the GPU is full.
    """
    saves = processes.by_first(lambda: _saves(work))
    trainer = _trainer(
        forward,
        batches,
        held_out,
        settings={
            **_settings(arguments, work),
            "max_steps": schedule or batches.steps,
            "logging_steps": max(1, batches.steps // HISTORY),
            "learning_rate": learning_rate,
            "eval_strategy": "no" if held_out is None else "steps",
            "eval_steps": evaluate_every,
            "eval_on_start": held_out is not None and not saves,  # one that goes on has it
        },
        loss=loss,
        patience=arguments.patience,
        tell=lambda step, loss, ndcg: on_progress(stage, step, batches.steps, loss, ndcg),
    )
    with _in_words(work):
        _run(trainer, saves)
        if held_out is None:
            processes.by_first(lambda: _keep(forward.state_dict(), work))
        else:
            restore(forward, work / BEST)
    return _result(trainer.state, stage, batches)


def _run(trainer: Any, saves: list[Path]) -> None:
    """Train from the latest save to the end, or to Ctrl-C."""
    with _stop_at_a_step(trainer.stop), warnings.catch_warnings():
        # accelerate's new name for it would still share the buffers at the start, to no use.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
        try:
            trainer.train(resume_from_checkpoint=str(_latest(saves)) if saves else None)
        except _Finished:
            pass
    if processes.largest(int(trainer.stop.is_set())):
        raise KeyboardInterrupt


@contextlib.contextmanager
def _in_words(work: Path) -> Iterator[None]:
    """Say what a full disk or a full GPU means for a training."""
    torch = require("torch", extra="train")
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainError(
            "a step does not fit into the GPU's memory; --gradient-accumulation-steps computes it "
            "in parts, and --gradient-checkpointing and --lora-rank need less"
        ) from error
    except Exception as error:
        reason = write_failure(error)
        if reason is None:
            raise
        raise TrainError(f"cannot save to {work}: {reason}, and repeat") from error


def _keep(weights: dict[str, Any], work: Path) -> None:
    """Write a stage's weights, whole or not at all: the former ones may be the best still."""
    torch = require("torch", extra="train")
    partial = work / f"{BEST}.partial"
    torch.save(weights, partial)
    partial.replace(work / BEST)


def restore(forward: Any, weights: Path) -> None:
    """Give a module the weights that a stage left, wherever they were computed."""
    torch = require("torch", extra="train")
    forward.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))


def _result(state: Any, stage: str, batches: Batches) -> StageResult:
    """What the Trainer's records say about a stage."""
    rows = state.log_history
    evaluations = [row for row in rows if NDCG in row]
    return StageResult(
        stage=stage,
        history=[
            {"stage": stage, "step": row["step"], "loss": row["loss"], "seconds": row["seconds"]}
            for row in rows
            if "loss" in row
        ],
        evaluations=[
            {"stage": stage, "step": row["step"], "ndcg@10": row[NDCG]} for row in evaluations
        ],
        steps=batches.steps,
        best_step=_best(rows)["step"] if evaluations else state.global_step,
        stopped_early=state.global_step < batches.steps,
        documents_by_source=batches.documents_by_source(state.global_step),
    )


def precision_of(arguments: TrainArguments) -> str:
    """In which a run computes, fp32, bf16 or fp16: as asked, or as the machine does in hardware.

    Raises:
        UsageError: fp16 without a GPU, whose gradients would vanish unscaled.
    """
    if arguments.precision == "fp16" and not require("torch", extra="train").cuda.is_available():
        raise UsageError("precision fp16 needs a GPU, this machine has none; choose bf16 or auto")
    if arguments.precision != "auto":
        return arguments.precision
    return "bf16" if _has_bfloat16() else "fp32"


def _has_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (CUDA, AVX512-BF16 or AMX)."""
    torch = require("torch", extra="train")
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _settings(arguments: TrainArguments, work: Path) -> dict[str, Any]:
    torch = require("torch", extra="train")
    precision = precision_of(arguments)
    return {
        "output_dir": str(work),
        "per_device_train_batch_size": 1,
        "lr_scheduler_type": arguments.schedule,
        "warmup_steps": arguments.warmup_ratio,
        "weight_decay": arguments.weight_decay,
        "max_grad_norm": arguments.max_grad_norm,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "gradient_accumulation_steps": arguments.gradient_accumulation_steps,
        "ddp_find_unused_parameters": False,
        "ddp_broadcast_buffers": False,  # the processes do not forward equally often
        "use_cpu": not torch.cuda.is_available(),
        "logging_strategy": "steps",
        "logging_nan_inf_filter": False,
        "save_strategy": "no",  # `_watcher` says when
        "save_total_limit": 1,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
        "log_level": "error",
        "seed": arguments.seed,
    }


def _trainer(
    model: Any,
    batches: Batches,
    held_out: RerankedQueries | None,
    *,
    settings: dict[str, Any],
    loss: LossFunction,
    patience: int,
    tell: Callable[[int, float | None, float | None], None],
) -> Any:
    """A Trainer that takes whole batches, and measures nDCG@10 where others measure loss."""
    transformers = require("transformers", extra="train")
    torch = require("torch", extra="train")

    class RankingTrainer(transformers.Trainer):  # type: ignore[misc, name-defined]
        stop = threading.Event()
        control: Any

        def get_train_dataloader(self) -> Any:
            # Not accelerate's, which would deal whole steps to the processes.
            return torch.utils.data.DataLoader(
                batches, batch_size=1, collate_fn=lambda items: items[0]
            )

        def compute_loss(
            self,
            model: Any,
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            found = torch.cat([model(**chunk)[:, 0].float() for chunk in inputs["chunks"]])
            flat = torch.zeros_like(found).index_copy(0, inputs["order"], found)
            target, mask = inputs["target"], inputs["mask"]
            logits = torch.zeros_like(target).masked_scatter(mask, flat)
            return loss(logits, target, mask) * inputs["weight"]

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            assert held_out is not None
            queries = held_out
            metrics = {NDCG: processes.by_first(lambda: queries.ndcg(self.model))}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, metrics
            )
            return metrics

    trainer = RankingTrainer(
        model=model,
        args=transformers.TrainingArguments(**settings),
        train_dataset=batches,
        eval_dataset=batches,
    )
    # Two visible GPUs must not get two items as one; `processes` is for them.
    trainer.args._n_gpu = min(trainer.args.n_gpu, 1)
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    trainer.add_callback(_watcher(transformers, trainer, patience, tell))
    return trainer


def _watcher(
    transformers: Any,
    trainer: Any,
    patience: int,
    tell: Callable[[int, float | None, float | None], None],
) -> Any:
    """Keeps the best weights, stops when nothing gets better, at Ctrl-C, or at a NaN."""
    work = Path(trainer.args.output_dir)
    began = time.monotonic()

    steps = trainer.train_dataset.steps

    class Watcher(transformers.TrainerCallback):  # type: ignore[misc]
        saved = began
        spent = 0.0

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.spent = max((row.get("seconds", 0.0) for row in state.log_history), default=0.0)
            rows = [row for row in state.log_history if NDCG in row]
            if state.global_step >= steps or (rows and _without_gain(rows) >= patience):
                raise _Finished

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            rows = [row for row in state.log_history if NDCG in row]
            tell(state.global_step, None, rows[-1][NDCG])
            if _best(rows)["step"] == rows[-1]["step"]:
                weights = trainer.model.state_dict()
                processes.by_first(lambda: _keep(weights, work))
            elif state.global_step and _without_gain(rows) >= patience:
                control.should_training_stop = True

        def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            row = state.log_history[-1]
            if "loss" not in row:
                return
            row["seconds"] = round(self.spent + time.monotonic() - began, 3)
            if row["loss"] != row["loss"]:
                raise TrainError(
                    f"the loss is not a number at step {state.global_step}; "
                    "try a lower --learning-rate or --precision fp32"
                )
            tell(state.global_step, row["loss"], None)

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            due = time.monotonic() - self.saved >= SAVE_SECONDS
            asked = processes.largest(2 if trainer.stop.is_set() else int(due))
            if asked:
                control.should_save, self.saved = True, time.monotonic()
            if asked == 2:
                control.should_training_stop = True
            if state.global_step >= steps:  # before its schedule ends
                control.should_training_stop = True

    return Watcher()


def _best(log_history: list[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation with the highest nDCG@10; the first of equals."""
    return max((row for row in log_history if NDCG in row), key=lambda row: row[NDCG])


def _without_gain(rows: list[dict[str, Any]]) -> int:
    """Evaluations since the best one."""
    return len(rows) - 1 - max(range(len(rows)), key=lambda at: rows[at][NDCG])


def _saves(work: Path) -> list[Path]:
    """The whole saves of a stage; what a killed run left unfinished is removed."""
    found = sorted(work.glob("checkpoint-*"))
    whole = [save for save in found if _is_whole(save)]
    for save in set(found) - set(whole):
        shutil.rmtree(save)
    return whole


def _is_whole(save: Path) -> bool:
    """Whether the file that the Trainer writes last is there."""
    try:
        json.loads((save / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _latest(saves: list[Path]) -> Path:
    return max(saves, key=lambda path: int(path.name.rpartition("-")[2]))


@contextlib.contextmanager
def _stop_at_a_step(stop: threading.Event) -> Iterator[None]:
    """Let the first Ctrl-C finish its step and save; a second one ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        if processes.is_first():
            logger.warning("saving after this step or evaluation; Ctrl-C again ends at once")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
