"""One stage of training: transformers' Trainer over ready batches, with early stopping."""

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
from typing import TYPE_CHECKING, Any

from ranker.errors import TrainError, UsageError, require
from ranker.files import write_failure
from ranker.model.losses import LossFunction
from ranker.train import processes
from ranker.train.arguments import TrainArguments
from ranker.train.batches import Batches

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState

__all__ = [
    "BEST",
    "OnProgress",
    "StageResult",
    "Validation",
    "precision_of",
    "restore",
    "run_stage",
]

logger = logging.getLogger(__name__)

SAVE_SECONDS = 60.0
"""Time between two saves: what a kill can cost."""
HISTORY = 2_000
"""Maximum number of losses that a stage keeps, each the mean of several steps if it is longer."""
BEST = "best.pt"
"""The weights that a stage leaves."""

OnProgress = Callable[[str, int, int, float | None, float | None], None]
"""Called with stage, steps done, steps in all, and a loss or the value of the measure."""


class _Finished(Exception):  # noqa: N818 - not an error
    """The save that a stage resumes from was made at its end: nothing is left to train."""


@dataclass(frozen=True)
class StageResult:
    """What a stage did.

    Attributes:
        stage: its name.
        history: losses, each with its step.
        evaluations: values of the measure, each with its step.
        steps: number of planned steps.
        best_step: step of the weights that it ended with.
        stopped_early: whether it ended before the last step.
        documents_by_source: number of documents of each source in the groups of its epochs; the
            last epoch may not have been seen to its end.
    """

    stage: str
    history: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    steps: int
    best_step: int
    stopped_early: bool
    documents_by_source: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Validation:
    """What a stage stops by.

    Attributes:
        measure: its name in the records.
        value: the measure of a model; higher is better.
        every: steps between two evaluations; the last step is always followed by one.
    """

    measure: str
    value: Callable[["Module"], float]
    every: int = 1

    @property
    def key(self) -> str:
        """The measure's name in the Trainer's log."""
        return f"eval_{self.measure}"


def run_stage(
    forward: "Module",
    batches: Batches,
    validation: Validation | None,
    *,
    stage: str,
    learning_rate: float,
    schedule: int | None = None,
    loss: LossFunction,
    arguments: TrainArguments,
    folder: Path,
    on_progress: OnProgress,
) -> StageResult:
    """Train a module of `forward_of` in place over all batches.

    With a validation the stage stops when its measure no longer improves, and ends with the
    weights of the best evaluation; without one it ends with the last weights.  An interrupted
    stage resumes from its last save, and ends as it would have.

    Args:
        forward: the module.
        batches: what to learn from, a step each.
        validation: what to stop by; None for all the steps.
        stage: its name, for the records and for progress.
        learning_rate: its peak.
        schedule: steps in which the learning rate falls to 0, if other than those of `batches`.
        loss: what is minimised, of outputs [groups, documents, outputs], targets and mask.
        arguments: the run's arguments.
        folder: folder of the saves.
        on_progress: called at each step and evaluation.

    Raises:
        KeyboardInterrupt: after Ctrl-C; all progress is saved.
        TrainError: the loss is no longer a number, or the disk or the GPU is full.
    """
    saves = processes.by_first(lambda: _saves(folder))
    stop = threading.Event()
    trainer = _trainer(
        forward,
        batches,
        validation,
        settings={
            **_settings(arguments, folder),
            "max_steps": schedule or batches.steps,
            "logging_steps": max(1, batches.steps // HISTORY),
            "learning_rate": learning_rate,
            "eval_strategy": "no" if validation is None else "steps",
            "eval_steps": validation.every if validation else None,
            "eval_on_start": validation is not None and not saves,  # a resumed one has it
        },
        loss=loss,
        patience=arguments.patience,
        report=lambda step, loss, value: on_progress(stage, step, batches.steps, loss, value),
        stop=stop,
    )
    with _explained(folder):
        _run(trainer, saves, stop)
        if validation is None:
            processes.by_first(lambda: _keep(forward.state_dict(), folder))
        else:
            restore(forward, folder / BEST)
    return _result(trainer.state, stage, batches, validation)


def _run(trainer: "Trainer", saves: list[Path], stop: threading.Event) -> None:
    """Train from the latest save to the end, or to Ctrl-C."""
    with _stop_at_a_step(stop), warnings.catch_warnings():
        # accelerate's new name for it would still share the buffers at the start, to no use.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
        try:
            latest = max(saves, key=lambda save: int(save.name.rpartition("-")[2]), default=None)
            trainer.train(resume_from_checkpoint=str(latest) if latest else None)
        except _Finished:
            pass
    if processes.largest(int(stop.is_set())):
        raise KeyboardInterrupt


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Raise TrainError with advice when the disk or the GPU is full."""
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
        raise TrainError(f"cannot save to {folder}: {reason}, and repeat") from error


def _keep(weights: dict[str, Any], folder: Path) -> None:
    """Write a stage's weights, whole or not at all: the previous ones may still be the best."""
    torch = require("torch", extra="train")
    partial = folder / f"{BEST}.partial"
    torch.save(weights, partial)
    partial.replace(folder / BEST)


def restore(forward: "Module", weights: Path) -> None:
    """Load the weights that a stage left into a module, regardless of their device."""
    torch = require("torch", extra="train")
    forward.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))


def _result(
    state: "TrainerState", stage: str, batches: Batches, validation: Validation | None
) -> StageResult:
    """Return what the Trainer's records say about a stage."""
    rows: list[dict[str, Any]] = state.log_history
    evaluations = [row for row in rows if validation and validation.key in row]
    return StageResult(
        stage=stage,
        history=[
            {"stage": stage, "step": row["step"], "loss": row["loss"], "seconds": row["seconds"]}
            for row in rows
            if "loss" in row
        ],
        evaluations=[
            {"stage": stage, "step": row["step"], validation.measure: row[validation.key]}
            for row in evaluations
            if validation
        ],
        steps=batches.steps,
        best_step=_best(evaluations, validation.key)["step"] if validation else state.global_step,
        stopped_early=state.global_step < batches.steps,
        documents_by_source=batches.documents_by_source(state.global_step),
    )


def precision_of(arguments: TrainArguments) -> str:
    """Return the precision of a run, fp32, bf16 or fp16: as asked, or the machine's fastest.

    Raises:
        UsageError: fp16 without a GPU, whose gradients would vanish unscaled.
    """
    if arguments.precision == "fp16" and not require("torch", extra="train").cuda.is_available():
        raise UsageError("precision fp16 needs a GPU, this machine has none; choose bf16 or auto")
    if arguments.precision != "auto":
        return arguments.precision
    return "bf16" if _has_bfloat16() else "fp32"


def _has_bfloat16() -> bool:
    """Return whether this machine multiplies bfloat16 in hardware (CUDA, AVX512-BF16 or AMX)."""
    torch = require("torch", extra="train")
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _settings(arguments: TrainArguments, folder: Path) -> dict[str, Any]:
    torch = require("torch", extra="train")
    precision = precision_of(arguments)
    return {
        "output_dir": str(folder),
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
        "save_strategy": "no",  # `_watcher` decides when
        "save_total_limit": 1,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
        "log_level": "error",
        "seed": arguments.seed,
    }


def _trainer(
    model: "Module",
    batches: Batches,
    validation: Validation | None,
    *,
    settings: dict[str, Any],
    loss: LossFunction,
    patience: int,
    report: Callable[[int, float | None, float | None], None],
    stop: threading.Event,
) -> "Trainer":
    """Return a Trainer that takes whole batches, and evaluates by the measure of the task."""
    transformers = require("transformers", extra="train")
    torch = require("torch", extra="train")

    class RankingTrainer(transformers.Trainer):  # type: ignore[misc, name-defined]
        control: Any

        def get_train_dataloader(self) -> Any:
            # Not accelerate's, which would distribute whole steps among the processes.
            return torch.utils.data.DataLoader(
                batches, batch_size=1, collate_fn=lambda items: items[0]
            )

        def compute_loss(
            self,
            model: "Module",
            inputs: dict[str, Any],
            return_outputs: bool = False,
            num_items_in_batch: "Tensor | int | None" = None,
        ) -> Any:
            outputs = _outputs(model, inputs)
            return loss(outputs, inputs["target"], inputs["mask"]) * inputs["weight"]

        def evaluate(self, *_: object, **__: object) -> dict[str, float]:
            assert validation is not None
            value = processes.by_first(lambda: validation.value(self.model))
            metrics = {validation.key: value}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(
                self.args, self.state, self.control, metrics
            )
            return metrics

    trainer: Trainer = RankingTrainer(
        model=model,
        args=transformers.TrainingArguments(**settings),
        train_dataset=batches,
        eval_dataset=batches,
    )
    # Two visible GPUs must not get two items as one; `processes` is for them.
    trainer.args._n_gpu = min(trainer.args.n_gpu, 1)
    trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
    key = validation.key if validation else ""
    trainer.add_callback(
        _watcher(model, Path(settings["output_dir"]), batches.steps, key, patience, report, stop)
    )
    return trainer


def _outputs(model: "Module", inputs: dict[str, Any]) -> "Tensor":
    """Return the outputs [groups, documents, outputs] of a step, computed in chunks of pairs."""
    torch = require("torch", extra="train")
    sorted_pairs = torch.cat([model(**chunk).float() for chunk in inputs["chunks"]])
    pairs = torch.zeros_like(sorted_pairs).index_copy(0, inputs["order"], sorted_pairs)
    mask = inputs["mask"]
    empty: Tensor = torch.zeros((*mask.shape, pairs.shape[1]), device=mask.device)
    return empty.masked_scatter(mask.unsqueeze(-1), pairs)


def _watcher(
    model: "Module",
    folder: Path,
    steps: int,
    key: str,
    patience: int,
    report: Callable[[int, float | None, float | None], None],
    stop: threading.Event,
) -> "TrainerCallback":
    """Return a callback that keeps the best weights, and stops early, at Ctrl-C or at a NaN.

    `key` is the measure's name in the log, empty if there is none.
    """
    transformers = require("transformers", extra="train")
    began = time.monotonic()

    class Watcher(transformers.TrainerCallback):  # type: ignore[misc, name-defined]
        saved = began
        spent = 0.0

        def on_train_begin(
            self, args: object, state: "TrainerState", control: "TrainerControl", **_: object
        ) -> None:
            self.spent = max((row.get("seconds", 0.0) for row in state.log_history), default=0.0)
            rows = [row for row in state.log_history if key in row]
            if state.global_step >= steps or (rows and _without_gain(rows, key) >= patience):
                raise _Finished

        def on_evaluate(
            self, args: object, state: "TrainerState", control: "TrainerControl", **_: object
        ) -> None:
            rows = [row for row in state.log_history if key in row]
            report(state.global_step, None, rows[-1][key])
            if _best(rows, key)["step"] == rows[-1]["step"]:
                weights = model.state_dict()
                processes.by_first(lambda: _keep(weights, folder))
            elif state.global_step and _without_gain(rows, key) >= patience:
                control.should_training_stop = True

        def on_log(
            self, args: object, state: "TrainerState", control: "TrainerControl", **_: object
        ) -> None:
            row = state.log_history[-1]
            if "loss" not in row:
                return
            row["seconds"] = round(self.spent + time.monotonic() - began, 3)
            if row["loss"] != row["loss"]:
                raise TrainError(
                    f"the loss is not a number at step {state.global_step}; "
                    "try a lower --learning-rate or --precision fp32"
                )
            report(state.global_step, row["loss"], None)

        def on_step_end(
            self, args: object, state: "TrainerState", control: "TrainerControl", **_: object
        ) -> None:
            due = time.monotonic() - self.saved >= SAVE_SECONDS
            asked = processes.largest(2 if stop.is_set() else int(due))
            if asked:
                control.should_save, self.saved = True, time.monotonic()
            if state.global_step >= steps and key:
                control.should_evaluate = True
            if asked == 2 or state.global_step >= steps:  # the schedule may end later
                control.should_training_stop = True

    return Watcher()


def _best(evaluations: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Return the evaluation with the highest value, the first of equals."""
    return max(evaluations, key=lambda row: row[key])


def _without_gain(evaluations: list[dict[str, Any]], key: str) -> int:
    """Return the number of evaluations since the best one."""
    return len(evaluations) - 1 - evaluations.index(_best(evaluations, key))


def _saves(folder: Path) -> list[Path]:
    """Return the complete saves of a stage; remove what a killed run left unfinished."""
    complete = []
    for save in sorted(folder.glob("checkpoint-*")):
        try:  # the file that the Trainer writes last
            json.loads((save / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(save)
        else:
            complete.append(save)
    return complete


@contextlib.contextmanager
def _stop_at_a_step(stop: threading.Event) -> Iterator[None]:
    """Finish the step and save at the first Ctrl-C; end at once at a second one."""
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
