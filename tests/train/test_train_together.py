"""Several processes that train one model, as torchrun starts them (on a CPU, over gloo)."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from small_data import write_csv

from ranker.artifacts.bundle import Checkpoint
from ranker.errors import UsageError
from ranker.train import TrainArguments, processes
from ranker.train.run import _require_room

pytestmark = pytest.mark.slow

OPTIONS = {
    "batch-size": 3, "negatives": 3, "epochs": 2, "held-out": 0.3, "precision": "fp32", "cv": 3,
    "dropout": 0, "pretrain-steps": 3, "learning-rate": 1e-3,
}  # fmt: skip
"""Three groups a step, so that two processes have two of them and one."""
TOGETHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def command(launcher: list[str], csv: Path, base: Path, out: Path) -> list[str]:
    options = [word for name, value in OPTIONS.items() for word in (f"--{name}", str(value))]
    return [
        sys.executable, *launcher, "-m", "ranker", "train", str(csv), "--base", str(base),
        "--pretrain", "--no-lint", "--out", str(out), *options,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "judged.csv")


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def alone(csv: Path, tiny_bert: Path, environment: dict, tmp_path_factory) -> Checkpoint:
    out = tmp_path_factory.mktemp("alone") / "out"
    subprocess.run(command([], csv, tiny_bert, out), env=environment, check=True)
    return Checkpoint.open(out)


def same(found: Checkpoint, expected: Checkpoint) -> None:
    """All that was measured is equal up to the rounding of sums in another order."""
    report, wanted = found.training, expected.training
    assert [r["versions"]["processes"] for r in (report, wanted)] == [2, 1]
    histories = [
        [r["history"], *(fold["history"] for fold in r["cv"]["by_fold"])] for r in (report, wanted)
    ]
    losses = [[row["loss"] for row in itertools.chain(*stages)] for stages in histories]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3) and len(losses[0]) > 5
    for key in ("documents_by_source", "stages", "evaluations"):
        assert json.dumps(report[key]) == json.dumps(wanted[key])
    for fold, other in zip(report["cv"]["by_fold"], wanted["cv"]["by_fold"], strict=True):
        assert fold["best_step"] == other["best_step"]
        assert fold["evaluations"] == other["evaluations"]
        assert fold["ndcg@10"] == pytest.approx(other["ndcg@10"], abs=1e-6)


def wait_for_its_processes(out: str) -> None:
    deadline = time.monotonic() + 60
    while any(
        out in (process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_processes_train_what_one_trains(
    csv: Path, tiny_bert: Path, alone: Checkpoint, environment: dict, tmp_path: Path
) -> None:
    """A cross-validation, killed on the way and resumed."""
    out = tmp_path / "out"
    words = command(TOGETHER, csv, tiny_bert, out)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(words, env=environment, **quiet)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / ".out.work/fold-1.json").exists():
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        child.kill()  # the launcher alone: the processes that it started must end by themselves
        child.wait()
    wait_for_its_processes(str(out))
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    same(Checkpoint.open(out), alone)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert result.stdout.count("ship gate:") == 1  # one of them speaks
    assert "fold 3/3" in result.stderr and "fold 1/3" not in result.stderr
    assert "Warning" not in result.stderr


PATIENT = """
import sys, torch
from ranker.train import processes
processes.join()
backend = torch.distributed.group.WORLD._get_backend(torch.device("cpu"))
sys.exit(0 if backend.options._timeout == processes.PATIENCE else 3)
"""
"""Torch's own limit is half an hour; shortening it for a test would also shorten the meeting."""


def test_the_others_wait_however_long_the_first_one_scores(
    environment: dict, tmp_path: Path
) -> None:
    (tmp_path / "patient.py").write_text(PATIENT)
    words = [sys.executable, *TOGETHER, str(tmp_path / "patient.py")]
    result = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr


def test_an_environment_of_no_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="start them with torchrun, or unset WORLD_SIZE"):
        processes.join()


def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setenv("RANK", "3")  # of another program
    assert processes.is_first() and processes.count() == 1
    assert processes.by_first(lambda: 7) == 7 and processes.largest(3) == 3
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert not processes.is_first() and processes.count() == 4
    with pytest.raises(UsageError, match="4 processes train each fold together"):
        _require_room(TrainArguments(), 2)
    _require_room(TrainArguments(batch_size=8, gradient_accumulation_steps=2), 1)
    with pytest.raises(UsageError, match="4 processes with 3 parts .* need at least 12"):
        _require_room(TrainArguments(batch_size=8, gradient_accumulation_steps=3), 1)
