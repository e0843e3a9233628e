"""Kill a training at random moments, resume it, and compare its weights with an uninterrupted run.

    python benchmarks/interrupting.py judged.csv --base tiny-model --kills 20 -- --cv 3 --pretrain

The options after `--` are passed to `ranker train`.  A training that was killed (SIGKILL) is
resumed with the same command, which is killed as well half of the time.  It saves every
`--save-seconds` instead of every minute, so that even a short training has saves to resume from.
The script exits with status 1 if any weights differ.
"""

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import ranker.train.loop
from ranker.cli import main
ranker.train.loop.SAVE_SECONDS = {seconds}
raise SystemExit(main())
"""


def main() -> int:
    """Run the uninterrupted training and then the killed ones, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--base", required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--save-seconds", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    words = [*sys.argv[1:], "--"]
    ours, options = words[: words.index("--")], words[words.index("--") + 1 : -1]
    given = parser.parse_args(ours)
    draw = random.Random(given.seed)
    program = PROGRAM.format(seconds=given.save_seconds)
    command = [sys.executable, "-c", program, "train", given.data, "--base", given.base]
    command += ["--no-lint", *options, "--out"]
    killed = different = 0
    with tempfile.TemporaryDirectory() as folder:
        alone, out = Path(folder) / "alone", Path(folder) / "killed"
        began = time.monotonic()
        _run([*command, str(alone)], None)
        seconds = time.monotonic() - began
        print(f"uninterrupted: {seconds:.1f} s, {_weights(alone)[:13]}", flush=True)
        while killed < given.kills:
            moments: list[str] = []
            while not out.exists():
                again = not moments or draw.random() < 0.5
                moment = draw.uniform(0, seconds) if again else None
                if _run([*command, str(out)], moment):
                    moments.append(f"{moment:.1f}")
            killed += len(moments)
            same = _weights(out) == _weights(alone)
            different += not same
            print(
                f"killed at {', '.join(moments)} s: {'same' if same else 'DIFFERENT'} weights",
                flush=True,
            )
            shutil.rmtree(out)
    print(f"{killed} kills, {different} trainings ended with different weights")
    return 1 if different else 0


def _run(command: list[str], kill_after: float | None) -> bool:
    """Run a command, kill it after the given seconds, and return True if it was killed."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        if child.wait(kill_after) != 0:
            raise SystemExit(f"failed: {' '.join(command)}")
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return True
    return False


def _weights(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
