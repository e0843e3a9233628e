"""Mistakes of users on the command line: one clear line, and nothing half-written."""

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from engine_support import make_app, running_engine
from small_data import write_csv

from ranker.artifacts.bundle import write_hashes
from ranker.cli import main
from ranker.train.run_directory import RunDirectory

pytestmark = pytest.mark.slow

HEADER = "query,title,text,label\n"
CORPUS = '{"_id":"1","title":"red fox","text":"x"}\n{"_id":"2","title":"blue dog","text":"y"}\n'
QUERIES = '{"_id":"q1","text":"red fox"}\n{"_id":"q2","text":"blue dog"}\n'
QRELS = "query-id\tcorpus-id\tscore\nq1\t1\t1\nq2\t2\t1\n"
NOWHERE = "http://127.0.0.1:9"


def refused(
    arguments: Sequence[object], words: str, capsys: pytest.CaptureFixture, *, code: int = 1
) -> None:
    """Check that a command fails with one line on stderr that holds the words."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    assert error.startswith("ranker: error: ") and error.count("\n") == 1, error
    assert words in error and "bug in ranker" not in error, error


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make `app`, `app-bundle`, `other` (an application with other slots) and `judged.csv`."""
    folder = tmp_path_factory.mktemp("made")
    make_app(folder / "app")
    make_app(folder / "other", document_slots=64)
    write_csv(folder / "judged.csv")
    return folder


@pytest.fixture(scope="module")
def engine(made: Path) -> Iterator[str]:
    with running_engine(made / "app", made / "db") as url:
        assert main(["feed", str(made / "judged.csv"), "--url", url]) == 0
        yield url


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "judged.csv is empty"),
        (HEADER.encode(), "the corpus is empty"),
        (b"query,title\na,b\n", "no column label (found: query, title)"),
        (f"{HEADER}a,b,c,NaN\n".encode(), "line 2: label 'NaN' is not a whole number"),
        (f"{HEADER}a,b,c,0.5\n".encode(), "line 2: label '0.5' is not a whole number"),
        (f"{HEADER}a,b,c,-1\n".encode(), "line 2: label '-1' is negative"),
        (f"{HEADER}a,b,c,9999999999\n".encode(), "is above 1000000, the largest grade"),
        (f"{HEADER}caf\xe9,b,c,1\n".encode("latin-1"), "line 2: not UTF-8 (byte 0xe9"),
        (f"{HEADER}a,b,c,1\n".encode("utf-16"), "the header in line 1 cannot be read"),
        (f"{HEADER},b,c,1\n".encode(), "line 2: the query is empty"),
        (f"{HEADER}\x01,b,c,1\n".encode(), "line 2: the query is empty"),
        (f"{HEADER}a,,,1\n".encode(), "line 2: title and text are both empty"),
        (f'{HEADER}a,"b,c,1\n'.encode(), "line 2: not CSV"),
        (f"{HEADER}a,b,c,0\nd,e,f,0\n".encode(), "all 2 labels are 0"),
        (f"{HEADER}a b,a b,x,1\na b,c,x,0\n".encode(), "it has only one judged query"),
    ],
)
def test_judged_data_that_cannot_be_learned_from(
    content: bytes, words: str, tmp_path: Path, tiny_bert: Path, capsys: pytest.CaptureFixture
) -> None:
    data = tmp_path / "judged.csv"
    data.write_bytes(content)
    given = ["train", data, "--no-lint", "--base", tiny_bert, "--out", tmp_path / "out"]
    refused(given, words, capsys)
    assert contents(tmp_path) == {"judged.csv"}


@pytest.mark.parametrize(
    ("corpus", "queries", "qrels", "words"),
    [
        ("", QUERIES, QRELS, "corpus.jsonl is empty"),
        (CORPUS, QUERIES, "", "no judgements in"),
        (CORPUS, QUERIES, f"{QRELS}q1\t99\t1\n", "line 4: document '99' is judged but not in"),
        (CORPUS, QUERIES, f"{QRELS}q9\t1\t1\n", "line 4: query 'q9' is judged but has no text"),
        (CORPUS * 2, QUERIES, QRELS, "line 3: document id '1' came before"),
    ],
)
def test_collections_that_contradict_themselves(
    corpus: str,
    queries: str,
    qrels: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "data/qrels").mkdir(parents=True)
    (tmp_path / "data/corpus.jsonl").write_text(corpus)
    (tmp_path / "data/queries.jsonl").write_text(queries)
    (tmp_path / "data/qrels/train.tsv").write_text(qrels)
    before = contents(tmp_path)
    refused(["train", tmp_path / "data", "--out", tmp_path / "out"], words, capsys)
    assert contents(tmp_path) == before


def _config(**values: object) -> Callable[[Path], None]:
    def change(base: Path) -> None:
        path = base / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def _without(*names: str) -> Callable[[Path], None]:
    return lambda folder: [(folder / name).unlink() for name in names] and None


def _with(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without("tokenizer.json", "tokenizer_config.json"), "has no tokenizer"),
        (_without("config.json"), "expected a folder with config.json or a Hugging Face id"),
        (_without("model.safetensors"), "cannot be read: Error no file named model.safetensors"),
        (_with("model.safetensors", b"\x00" * 99), "cannot be read"),
        (_with("tokenizer.json", b"{}"), "base': tokenizer.json is not a tokenizer"),
        (_config(hidden_size=64), "do not fit its config.json (bert)"),
        (_config(model_type="distilbert"), "do not fit its config.json (distilbert)"),
        (_config(vocab_size=10), "is outside the vocabulary of 10"),
        (_config(max_position_embeddings=64), "the model takes at most 64 positions"),
    ],
)
def test_invalid_base_models(
    change: Callable[[Path], None],
    words: str,
    made: Path,
    tiny_bert: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    base = Path(shutil.copytree(tiny_bert, tmp_path / "base"))
    change(base)
    out = tmp_path / "out"
    given = ["train", made / "judged.csv", "--no-lint", "--base", base, "--out", out]
    refused(given, words, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def _resealed(name: str, content: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_text(content)
        write_hashes(folder)

    return change


@pytest.mark.parametrize(
    ("source", "change", "words"),
    [
        ("app-bundle", _without("model.onnx"), "model.onnx is missing"),
        ("app-bundle", _with("tokenizer.json", b"{}"), "tokenizer.json was changed after"),
        ("app-bundle", _without("hashes.json"), "hashes.json is missing"),
        ("app-bundle", _with("hashes.json", b"[]"), "hashes.json"),
        ("app-bundle", _resealed("bundle.json", "{}"), "bundle.json"),
        ("app-bundle", _resealed("bundle.json", "[]"), "bundle.json"),
        ("app-bundle", _resealed("spec.json", "[1]"), "token contract"),
        ("app", _without("files/tokenizer.json"), "tokenizer.json is missing"),
        ("app", _with("schemas/doc.sd", b"x"), "schemas/doc.sd was changed after"),
        ("app", _resealed("manifest.json", "{}"), "manifest.json is not a manifest of ranker"),
        ("app", _resealed("manifest.json", "null"), "manifest.json is not a manifest of ranker"),
        ("app", _resealed("files/tokenizer.json", "{}"), "tokenizer"),
    ],
)
def test_damaged_artifacts(
    source: str,
    change: Callable[[Path], None],
    words: str,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    damaged = Path(shutil.copytree(made / source, tmp_path / "damaged"))
    change(damaged)
    out = tmp_path / "out"
    verb = ["package", damaged, "--out", out]
    if source == "app":
        verb = ["feed", made / "judged.csv", "--app", damaged, "--out", out]
    refused(verb, words, capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--learning-rate", "nan"], "learning_rate must be above 0"),
        (["--learning-rate", "inf"], "learning_rate must be above 0 and finite"),
        (["--weight-decay", "inf"], "weight_decay must be 0 or more and finite"),
        (["--seed", "-1"], "seed must be from 0"),
        (["--seed", "99999999999999999999"], "seed must be from 0"),
        (["--epochs", "-1"], "epochs must be 0 or more"),
        (["--held-out", "nan"], "held_out must be between 0 and 1"),
        (["--loss", "huge"], "loss"),
    ],
)
def test_impossible_training_options(
    options: list[str], words: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    refused(
        ["train", made / "judged.csv", "--out", tmp_path / "out", *options], words, capsys, code=2
    )
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["query", "fox", "--timeout", "inf"], 2, "timeout_s must be from"),
        (["query", "fox", "--timeout", "1e-9"], 2, "timeout_s must be from"),
        (["query", "fox", "--timeout", "nan"], 2, "timeout_s must be from"),
        (["query", "fox", "--hits", "-1"], 2, "hits and offset must be 0 or more"),
        (["query", "fox", "--hits", "100000"], 1, "'hits': expected at most 400, got 100000"),
        (["query", "fox", "--profile", ""], 2, "unknown rank profile ''"),
        (["query", "?!"], 2, "the question holds no word to search for"),
        (["feed", "DATA", "--connections", "0"], 2, "connections must be 1 or more"),
        (["feed", "DATA", "--retry-timeout", "nan"], 2, "retry_s must be 0 or more seconds"),
        (["feed", "DATA", "--app", "OTHER"], 1, "token contracts differ"),
        (["query", "fox", "--app", "OTHER", "--profile", "cross"], 1, "token contract"),
        (["evaluate", "DATA", "--app", "OTHER", "--out", "OUT"], 1, "token contract"),
        (["evaluate", "DATA", "--out", "OUT", "--hits", "0"], 2, "hits must be at least 1"),
        (["evaluate", "DATA", "--out", "OUT", "--measure", "x"], 1, "unknown measure 'x'"),
        (["evaluate", "STRANGE", "--out", "OUT"], 1, "none of 1 queries found a document"),
    ],
)
def test_impossible_requests_to_an_engine(
    arguments: list[str],
    code: int,
    words: str,
    made: Path,
    engine: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    (tmp_path / "strange.csv").write_text(f"{HEADER}zzz,yyy,,1\n")
    names = {
        "DATA": made / "judged.csv",
        "OTHER": made / "other",
        "OUT": tmp_path / "out",
        "STRANGE": tmp_path / "strange.csv",
    }
    given = [names.get(argument, argument) for argument in arguments]
    refused([*given, "--url", engine], words, capsys, code=code)
    assert contents(tmp_path) == {"strange.csv"}


def test_a_source_that_breaks_off_is_fed_up_to_there(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = tmp_path / "corpus.jsonl"
    source.write_text('{"_id":"a","title":"red"}\n{"_id":"b","title":"fox"}\n{bad\n')
    refused(["feed", source, "--url", engine], "2 of 2 documents acknowledged", capsys)


def test_strange_documents_are_fed(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    texts = [("fox", "fox dog " * 2**17), ("", ""), ("!!!", "..."), ("a\x00b", "\ud800 red")]
    rows = [{"_id": f"s{n}", "title": a, "text": b} for n, (a, b) in enumerate(texts)]
    source = tmp_path / "corpus.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["feed", str(source), "--url", engine, "--json"]) == 0
    account = json.loads(capsys.readouterr().out)
    assert (account["read"], account["ok"], account["sanitized"]) == (4, 4, 1)
    assert main(["query", "fox " * 300, "--url", engine]) == 0


@pytest.mark.parametrize("verb", ["query", "feed", "evaluate"])
def test_no_engine_there(
    verb: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = {
        "query": ["query", "fox"],
        "feed": ["feed", made / "judged.csv"],
        "evaluate": ["evaluate", made / "judged.csv", "--out", tmp_path / "out"],
    }[verb]
    refused([*given, "--app", made / "app", "--url", NOWHERE], "nothing answers at", capsys)
    refused([*given, "--url", "localhost"], "expected a URL such as", capsys, code=2)
    assert not contents(tmp_path)


def test_serving_where_it_is_impossible(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    app, data = made / "app", tmp_path / "db"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = f"cannot listen on 127.0.0.1:{port}"
        refused(["serve", app, "--data", data, "--port", port], words, capsys)
    words = "expected a --port from 1 to 65535, got 0"
    refused(["serve", app, "--data", data, "--port", 0], words, capsys, code=2)
    words = "expected a --port from 1 to 65535, got 70000"
    given = ["deploy", app, "--target", "embedded", "--data", data, "--port", 70000]
    refused(given, words, capsys, code=2)
    refused(["serve", tmp_path / "no", "--data", data], "is not an application package", capsys)
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("other", "it holds other files"),
        ("file", "a file of that name exists"),
        ("file/below", "cannot write the folder"),
        (".", "itself; name one inside it"),
        ("x" * 300, "File name too long"),
    ],
)
def test_invalid_output_folders(
    out: str,
    words: str,
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/mine").write_text("kept")
    (tmp_path / "file").write_text("kept")
    before = contents(tmp_path)
    refused(["package", made / "app-bundle", "--out", out], words, capsys)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"query = 1\n", "query is 1; expected a table of options: [query]"),
        (b"[ask]\nx = 1\n", "unknown command [ask]; expected one of"),
        (b"[query]\nhits = 'many'\n", "[query] hits must be a whole number, got 'many'"),
        (b"[query]\nprnt = true\n", "[query] has no option 'prnt'; it has app, cert,"),
        (b"\xff", "can't decode byte 0xff"),
        (b"x", "Expected '=' after a key"),
    ],
)
def test_invalid_configurations(
    content: bytes, words: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    refused(["--config", tmp_path / "c.toml", "query", "fox"], words, capsys, code=2)


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Limit the size of the files that this process writes while the test runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


@pytest.mark.parametrize("verb", ["train", "package", "feed", "evaluate"])
def test_a_full_disk(
    verb: str,
    made: Path,
    engine: str,
    tiny_bert: Path,
    tmp_path: Path,
    full_disk: Callable[[int], None],
    capsys: pytest.CaptureFixture,
) -> None:
    data, out = made / "judged.csv", tmp_path / "out"
    given: list[object] = {
        "train": ["train", data, "--base", tiny_bert, "--epochs", "1", "--json"],
        "package": ["package", made / "app-bundle"],
        "feed": ["feed", data, "--app", made / "app", "--out", out],
        "evaluate": ["evaluate", data, "--url", engine],
    }[verb]
    if verb != "feed":
        given += ["--out", out]
    capsys.readouterr()
    full_disk(20_000 if verb == "train" else 300)
    code = main([str(argument) for argument in given])
    full_disk(resource.RLIM_INFINITY)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1 and "make room there" in said and str(tmp_path) in said
    assert not contents(tmp_path)


def _interrupted(arguments: Sequence[object], mark: str, log: Path) -> tuple[int, str]:
    """Run a command, press Ctrl-C at a mark in its log; return its exit status and its log."""
    command = [sys.executable, "-m", "ranker.cli", *map(str, arguments)]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        end = time.monotonic() + 60
        while mark not in log.read_text() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    return code, log.read_text()


def test_training_resumes_after_ctrl_c(made: Path, tiny_bert: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    given = ["train", made / "judged.csv", "--base", tiny_bert, "--epochs", "200", "--out", out]
    code, said = _interrupted([*given, "--patience", "999"], "judged step 3/", log)
    assert code == 130 and "Traceback" not in said
    assert "saving after this step or evaluation; Ctrl-C again ends at once" in said
    assert said.strip().endswith("interrupted; rerun the same command to resume")
    assert not out.exists() and list((tmp_path / ".out.work/judged").glob("checkpoint-*"))


def test_ctrl_c_stops_the_engine(made: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = ["serve", made / "app", "--data", tmp_path / "db", "--port", port]
    code, said = _interrupted(given, "press Ctrl-C to stop", tmp_path / "log")
    assert code == 0 and said.count("\n") == 1 and "Traceback" not in said


def test_a_command_that_is_terminated_leaves_nothing_half_written(
    made: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text("".join(f'{{"_id": "d{n}", "text": "red fox {n}"}}\n' for n in range(200_000)))
    given = ["-v", "feed", many, "--app", made / "app", "--out", tmp_path / "out" / "w.jsonl"]
    (tmp_path / "out").mkdir()
    process = subprocess.Popen([sys.executable, "-m", "ranker.cli", *map(str, given)])
    end = time.monotonic() + 60
    while not list((tmp_path / "out").glob(".*.partial")) and time.monotonic() < end:
        time.sleep(0.02)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not list((tmp_path / "out").iterdir())


def test_two_trainings_of_one_name(made: Path, tiny_bert: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    given = [
        str(word) for word in ("train", made / "judged.csv", "--base", tiny_bert, "--out", out)
    ]
    with RunDirectory(out).reserved():
        (tmp_path / ".out.work" / "state").write_text("of the first")
        assert main([*given, "--seed", "3"]) == 1
        assert (tmp_path / ".out.work" / "state").read_text() == "of the first"
    (tmp_path / ".out.work").mkdir()
    (tmp_path / ".out.work" / "state").write_text("left by a training that was killed")
    assert main([*given, "--epochs", "1"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
