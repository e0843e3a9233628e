"""The README's commands, run as they stand there; only data, port and sizes are small."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from engine_support import free_port
from plugin_support import application, digest
from small_data import WORDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
OUTSIDE = {"docker": "docker", "cloud": "acme.pem"}
"""Targets that are not on this machine, and what their refusal must name."""


def section(title: str, language: str = "sh") -> list[str]:
    """The lines of the code blocks under a heading, continued ones joined."""
    text = README.split(f"\n## {title}\n")[1].split("\n## ")[0]
    blocks = "".join(re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL))
    return [line for line in blocks.replace("\\\n", " ").splitlines() if line.strip()]


def write_beir(folder: Path) -> None:
    """Sixty documents; a question names two words, and the documents with both answer it."""
    draw = random.Random(3)
    titles = [draw.sample(WORDS, 4) for _ in range(60)]
    questions = [draw.sample(title, 2) for title in titles[:24]]
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w") as file:
        for number, title in enumerate(titles):
            body = f"It is about {draw.choice(WORDS)}. It ends with a {draw.choice(WORDS)} now."
            row = {"_id": f"d{number}", "title": " ".join(title), "text": body}
            file.write(json.dumps(row) + "\n")
    with (folder / "queries.jsonl").open("w") as file:
        for number, words in enumerate(questions):
            file.write(json.dumps({"_id": f"q{number}", "text": " ".join(words)}) + "\n")
    for split, numbers in {"train": range(16), "test": range(16, 24)}.items():
        lines = ["query-id\tcorpus-id\tscore"]
        for number in numbers:
            grades = {row: set(questions[number]) <= set(title) for row, title in enumerate(titles)}
            lines += [f"q{number}\td{row}\t1" for row, answers in grades.items() if answers]
            lines.append(f"q{number}\td{(number + 30) % 60}\t0")
        (folder / f"qrels/{split}.tsv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """A folder with DATA, my-app, and a configuration that makes training small."""
    folder = tmp_path_factory.mktemp("readme")
    application("shop", folder).rename(folder / "my-app")
    write_beir(folder / "DATA")
    config = f'[train]\nbase = "{tiny_bert}"\npretrain-steps = 2\nepochs = 1\nbatch-size = 4\n'
    (folder / "small.toml").write_text(config)
    program = folder / "bin/ranker"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m ranker.cli --config small.toml "$@"\n'
    )
    program.chmod(0o755)
    return folder


def run(commands: list[str], place: Path, port: int) -> subprocess.CompletedProcess[str]:
    lines = [re.sub(r"\b(8080|19071)\b", str(port), line) for line in commands]
    lines = [
        f"{line.split('#')[0]} --port {port}" if "embedded" in line else line for line in lines
    ]
    done = subprocess.run(
        ["bash", "-c", "\n".join(["set -e", *lines])],
        cwd=place,
        env={**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    for process in re.findall(r"kill (\d+)", done.stdout):
        os.kill(int(process), signal.SIGTERM)
    return done


def test_your_own_data_and_your_own_vespa(place: Path) -> None:
    """One block after the other, with the engine of the first as the Vespa of the second."""
    port = free_port()
    own = section("With your own data")
    assert own[0].startswith("pip install ")
    vespa = [line for line in section("With your own Vespa") if "deploy" not in line]
    before = digest(place / "my-app")
    done = run([*own[1:], *vespa], place, port)
    assert done.returncode == 0, done.stderr
    for made in ("checkpoint", "bundle", "app", "evaluation", "report.html", "feed.jsonl"):
        assert (place / made).exists(), made
    assert digest(place / "my-app") == before and "the model ranker is not in my-app" in done.stdout
    assert "recommended profile" in done.stdout and "blend - bm25" in done.stdout
    assert '"yql"' in done.stdout
    assert "Traceback" not in done.stderr


def test_from_python(place: Path, tiny_bert: Path, tmp_path: Path) -> None:
    """The whole way, with a small model and few steps."""
    lines = section("From Python", "python")
    assert 12 <= len(lines) <= 18
    shutil.copytree(place / "DATA", tmp_path / "DATA")
    small = f"base={str(tiny_bert)!r}, pretrain_steps=2, epochs=1, batch_size=4, "
    program = "\n".join(lines).replace("pretrain=True", small + "pretrain=True")
    program = program.replace("8080", str(free_port())).replace("your question", " ".join(WORDS))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    shown = done.stdout.splitlines()
    assert len(shown) == 3 + 2 and {line.split()[0] for line in shown[3:]} == {"0", "1"}
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("command", [c for c in section("With your own Vespa") if "deploy" in c])
def test_deploy_reaches_its_target_or_says_what_is_missing(command: str, place: Path) -> None:
    target = shlex.split(command)[4]
    if target == "docker" and shutil.which("docker"):
        if not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
            pytest.skip("a Docker engine is on this machine")
    port = free_port()
    engine = "ranker deploy app --target embedded --data db"
    if target == "server":
        command += " --url http://localhost:8080"  # where it listens by default
    done = run([engine, command], place, port)
    if target in OUTSIDE:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        assert done.returncode in (1, 2) and OUTSIDE[target] in lines[-1].lower()
    else:
        assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
