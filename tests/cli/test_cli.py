import json
import math
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
from engine_support import make_app, make_bundle, running_engine

import ranker
from ranker.cli import main
from ranker.cli.app import app
from ranker.cli.console import bar, table

VERBS = (
    "lint train export package verify deploy serve feed query evaluate report".split()
)  # design: the contract with users' scripts


def corpus(path: Path, count: int = 20) -> Path:
    words = ["red", "green", "blue", "fox", "dog", "cat", "house", "tree"]
    rows = [
        {"_id": f"d{n}", "title": words[n % 8], "text": f"the {words[n % 8]} {words[n % 5]} jumps"}
        for n in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def judged(folder: Path) -> Path:
    folder.mkdir()
    corpus(folder / "corpus.jsonl")
    queries = [{"_id": "q1", "text": "red fox"}, {"_id": "q2", "text": "blue dog"}]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels").mkdir()
    (folder / "qrels/test.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td0\t1\nq1\td3\t2\nq2\td4\t1\n"
    )
    return folder


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb: str, capsys: pytest.CaptureFixture) -> None:
    assert main([verb, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"Example: ranker {verb} " in shown
    if verb != "serve":
        assert "--json" in shown


def test_there_are_no_other_verbs(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    commands = capsys.readouterr().out.split("─ Commands ─")[1].split("╰")[0]
    listed = re.findall(r"^│ (\w+)", commands, flags=re.MULTILINE)
    assert sorted(listed) == sorted(VERBS)


def test_every_argument_and_option_has_help_of_its_own() -> None:
    for verb, command in typer.main.get_command(app).commands.items():
        for parameter in command.params:
            text = getattr(parameter, "help", None)
            assert text and text[0].isupper() and text.endswith("."), f"{verb} {parameter.name}"
            assert not text.startswith(("Its ", "Of these", "Of a ")), f"{verb} {parameter.name}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_verbs_and_options(shell: str) -> None:
    def complete(*words: str) -> str:
        line = " ".join(("ranker", *words))
        environment = {
            **os.environ,
            "_RANKER_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words)),
            "_TYPER_COMPLETE_ARGS": line,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        return subprocess.check_output([sys.executable, "-m", "ranker"], text=True, env=environment)

    assert {"query", "feed"} <= set(re.findall(r"\w+", complete("")))
    assert "--profile" in complete("query", "--pro") and "--port" not in complete("query", "--pro")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train"], 2, "Missing option '--out'"),
        (["train", "--out", "y"], 2, "Missing argument 'DATA'"),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["train", "x", "--out", "y", "--epochs", "many"], 2, "valid integer"),
        (["export", "nowhere", "--out", "y"], 1, "is not a checkpoint of `ranker train`"),
        (["package", "nowhere", "--out", "y"], 1, "is not a bundle of `ranker export`"),
        (["verify", "nowhere"], 1, "is not an application package"),
        (["feed", "x.jsonl", "--app", "nowhere"], 2, "--url, or a file with --out"),
        (["query", "hello"], 2, "name an endpoint with --url"),
        (["query", "hello", "--print"], 2, "name the application package with --app"),
        (["query", "x", "--url", "http://127.0.0.1:9"], 1, "127.0.0.1:9"),
        (["deploy", "nowhere", "--target", "moon"], 2, "unknown target 'moon'"),
        (["report", "nowhere", "--out", "page.html"], 1, "nowhere"),
        (["report", "nowhere", "--out", "page.pdf"], 2, "ends in .html"),
        (["--config", "nothing.toml", "train"], 2, "nothing.toml"),
    ],
)
def test_usage_errors_and_failures_are_one_line(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.err.startswith("ranker: error: ") and captured.err.count("\n") == 1
    assert words in captured.err and "Traceback" not in captured.err
    assert list(tmp_path.iterdir()) == []


def test_errors_are_json_for_machines(capsys: pytest.CaptureFixture) -> None:
    assert main(["export", "nowhere", "--out", "y", "--json"]) == 1
    assert "training.json is missing" in json.loads(capsys.readouterr().out)["error"]


def test_config_gives_defaults_and_the_command_line_wins(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    app = make_app(tmp_path / "app")
    config = tmp_path / "ranker.toml"
    config.write_text(f'[query]\napp = "{app}"\nprofile = "blend"\nprint = true\nhits = 3\n')
    assert main(["--config", str(config), "query", "red fox"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["ranking.profile"], body["hits"]) == ("blend", 3)
    assert main(["--config", str(config), "query", "red fox", "--profile", "bm25"]) == 0
    assert json.loads(capsys.readouterr().out)["ranking.profile"] == "bm25"


def test_a_bad_config_reports_all_problems(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = tmp_path / "ranker.toml"
    config.write_text("[train]\nepoch = 3\nlr = 1\n[trian]\nx = 1\n")
    assert main(["--config", str(config), "train", "x", "--out", "y"]) == 2
    error = capsys.readouterr().err
    assert "'epoch'" in error and "'lr'" in error and "[trian]" in error


def test_feed_query_evaluate_report_over_http(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    app, data = make_app(tmp_path / "app"), judged(tmp_path / "judged")
    with running_engine(app, tmp_path / "db") as url:
        assert main(["feed", str(data), "--app", str(app), "--url", url, "--json"]) == 0
        account = json.loads(capsys.readouterr().out)
        assert (account["read"], account["ok"], account["failed"]) == (20, 20, [])
        assert main(["query", "red fox", "--url", url, "--profile", "cross", "--json"]) == 0
        hits = json.loads(capsys.readouterr().out)["hits"]
        assert hits[0]["doc_id"].startswith("d") and "bm25(contents)" in hits[0]["match_features"]
        assert main(["query", "red fox", "--url", url]) == 0
        assert "matched," in capsys.readouterr().out
        out = tmp_path / "evaluation"
        code = main(["evaluate", str(data), "--url", url, "--out", str(out), "--hits", "10"])
        shown = capsys.readouterr().out
        assert code == 0 and "blend - bm25" in shown and "nDCG@10" in shown
    saved = tomllib.loads((out / "evaluate.toml").read_text())
    assert saved["evaluate"]["split"] == "test"
    assert saved["evaluate"]["measure"][0] == "nDCG@10" and saved["evaluate"]["concurrency"] == 1
    assert main(["report", str(out), "--out", str(tmp_path / "page.html")]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_the_probability_is_shown_and_filters(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    app = make_app(tmp_path / "app", calibration={"slope": 2.0, "intercept": -1.5})
    data = judged(tmp_path / "judged")

    def ask(*options: str) -> str:
        assert main(["query", "red fox", "--url", url, "--profile", "cross", *options]) == 0
        return capsys.readouterr().out

    with running_engine(app, tmp_path / "db") as url:
        assert main(["feed", str(data), "--app", str(app), "--url", url]) == 0
        capsys.readouterr()
        hits = json.loads(ask("--json"))["hits"]
        for hit in hits:  # the formula, over HTTP
            odds = 2.0 * hit["fields"]["summaryfeatures"]["logit"] - 1.5
            assert hit["probability"] == pytest.approx(1 / (1 + math.exp(-odds)), rel=1e-9)
        least = hits[2]["probability"]
        assert hits[-1]["probability"] < least
        kept = json.loads(ask("--json", "--min-score", repr(least)))["hits"]
        assert kept == [hit for hit in hits if hit["probability"] >= least] != hits
        assert f"{least:.3f}" in ask() and "probability" in ask()
        assert "no hits with a probability of at least 1\n" in ask("--min-score", "1")
        assert main(["query", "red", "--url", url, "--profile", "bm25", "--min-score", "0.5"]) == 2
    assert "min_score needs a rank profile with the model" in capsys.readouterr().err


def test_feed_writes_operations_instead(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    app, file = make_app(tmp_path / "app"), tmp_path / "feed.jsonl"
    source = corpus(tmp_path / "corpus.jsonl")
    assert main(["feed", str(source), "--app", str(app), "--out", str(file)]) == 0
    operations = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(operations) == 20 and operations[0]["put"] == "id:ranker:doc::d0"


def test_a_document_that_does_not_arrive_is_exit_1_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    app, source = make_app(tmp_path / "app"), corpus(tmp_path / "corpus.jsonl", 3)
    with source.open("a") as file:
        file.write(json.dumps({"_id": "x" * 70_000, "title": "t", "text": "t"}) + "\n")
    with running_engine(app, tmp_path / "db") as url:
        assert main(["feed", str(source), "--app", str(app), "--url", url]) == 1
    assert "xxx" in capsys.readouterr().err


def test_package_check(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "vespa_app"
    assert main(["package", "--out", str(out)]) == 0
    assert main(["package", "--out", str(out), "--check"]) == 0
    (out / "services.xml").write_text("<services/>")
    assert main(["package", "--out", str(out), "--check"]) == 1
    assert "services.xml differs" in capsys.readouterr().err


def test_package_check_sees_another_model_name_and_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    app = make_app(tmp_path / "app")
    bundle, other = tmp_path / "app-bundle", make_bundle(tmp_path / "other", penalty=0.2).path
    check = ["--out", str(app), "--check"]
    assert main(["package", str(bundle), *check]) == 0
    assert main(["package", str(other), *check]) == 1
    assert "model_sha256 is" in capsys.readouterr().err
    assert main(["package", str(bundle), *check, "--name", "other"]) == 1
    assert "application is 'ranker', not 'other'" in capsys.readouterr().err
    with (app / "files" / "tokenizer.json").open("a") as file:
        file.write(" ")
    assert main(["package", str(bundle), *check]) == 1
    assert "tokenizer.json differs" in capsys.readouterr().err


def test_hits_are_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    app, source = make_app(tmp_path / "app"), tmp_path / "corpus.jsonl"
    title = "red first\nsecond line\r third \u202eturned"
    source.write_text(json.dumps({"_id": "d", "title": title, "text": "fox"}) + "\n")
    with running_engine(app, tmp_path / "db") as url:
        assert main(["feed", str(source), "--app", str(app), "--url", url]) == 0
        capsys.readouterr()
        assert main(["query", "red", "--url", url, "--profile", "bm25"]) == 0
    assert "red first second line third turned" in capsys.readouterr().out


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    app = make_app(tmp_path / "app")
    command = f"{sys.executable} -m ranker.cli query 'red fox' --app {app} --print | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_unexpected_errors_are_also_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("ranker.artifacts.bundle.Checkpoint.open", lambda path: 1 / 0)
    monkeypatch.delenv("RANKER_DEBUG", raising=False)
    assert main(["export", "x", "--out", "y"]) == 1
    assert "unexpected ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.setenv("RANKER_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["export", "x", "--out", "y"])


def test_table_aligns_numbers_to_the_right() -> None:
    assert table(["name", "n"], [["a", "1"], ["bb", "10"]]) == "\n".join(
        ["name   n", "----  --", "a      1", "bb    10"]
    )


def test_ranker_query_print_needs_no_network(tmp_path: Path) -> None:
    app = make_app(tmp_path / "app")
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:1"}
    out = subprocess.check_output(
        [sys.executable, "-m", "ranker.cli", "query", "red fox", "--app", str(app), "--print"],
        text=True,
        env=environment,
    )
    assert json.loads(out)["query_text"] == "red fox"


@pytest.mark.parametrize(
    ("quiet", "seconds", "lines"),
    [(False, 0.0, ["feed 1/20", "feed 2/20 late"]), (False, 60.0, []), (True, 0.0, [])],
)
def test_progress_is_lines_where_nothing_can_be_drawn(
    quiet: bool,
    seconds: float,
    lines: list[str],
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ranker.cli.console.LINE_SECONDS", seconds)
    with bar("feed", quiet=quiet) as show:
        show(1, 20)
        show(2, 20, "late")
    assert capsys.readouterr().err.splitlines() == lines


def test_an_evaluation_is_reproduced_from_its_saved_options(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All options are saved; malformed rows that were skipped are listed and counted."""
    app, data = make_app(tmp_path / "app"), judged(tmp_path / "judged")
    with (data / "qrels/test.tsv").open("a") as file:
        file.write("q2\tnowhere\t1\n")
    monkeypatch.chdir(tmp_path)
    given = ["--measure", "P@5", "--measure", "AP", "--timeout", "7", "--concurrency", "2"]
    with running_engine(app, tmp_path / "db") as url:
        assert main(["feed", str(data), "--app", str(app), "--url", url]) == 0
        command = ["evaluate", str(data), "--url", url, "--out", "e", "--skip-bad", *given]
        assert main(command) == 0
        assert "skipped: " in (said := capsys.readouterr().err) and "'nowhere'" in said
        first = json.loads((tmp_path / "e/evaluation.json").read_text())
        assert main(["--config", "e/evaluate.toml", "evaluate", str(data)]) == 0
    again = json.loads((tmp_path / "e/evaluation.json").read_text())
    assert again["arguments"] == first["arguments"] and again["date"] >= first["date"]
    assert first["arguments"]["measures"] == ["P@5", "AP"]
    assert first["dataset"]["bad_rows_left_out"] == 1
    saved = tomllib.loads((tmp_path / "e/evaluate.toml").read_text())["evaluate"]
    assert (saved["timeout"], saved["concurrency"]) == (7, 2)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[train]\nepochs = 1.5\n", "[train] epochs must be a whole number, got 1.5"),
        ("[train]\nepochs = true\n", "[train] epochs must be a whole number, got True"),
        ("[train]\nepochs = [1]\n", "[train] epochs must be a whole number, got [1]"),
        ("[train]\npretrain = 1\n", "[train] pretrain must be true or false, got 1"),
        ("[train]\nbase = 3\n", "[train] base must be a string, got 3"),
        ("[evaluate]\nprofile = 'bm25'\n", "[evaluate] profile must be a list, got 'bm25'"),
        ("[train]\nlearning-rate = 1\nlearning_rate = 2\n", "[train] has learning-rate twice"),
        ("[query]\njsn = true\n", "[query] has no option 'jsn'; it has app, cert, hits, json, key"),
    ],
)
def test_a_config_of_wrong_types_is_refused(table, message, tmp_path, capsys) -> None:
    config = tmp_path / "ranker.toml"
    config.write_text(table)
    assert main(["--config", str(config), "train", "nothing", "--out", str(tmp_path / "o")]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_feed_does_not_write_onto_what_it_reads(tmp_path: Path, capsys) -> None:
    app, corpus = make_app(tmp_path / "app"), tmp_path / "beir" / "corpus.jsonl"
    corpus.parent.mkdir()
    corpus.write_text('{"_id": "d1", "title": "red", "text": "fox"}\n')
    before = corpus.read_text()
    for data in (corpus, corpus.parent):
        given = ["feed", str(data), "--app", str(app), "--out", str(corpus)]
        assert main(given) == 2
        assert "is the data that is read" in capsys.readouterr().err
    assert corpus.read_text() == before


def test_the_version_needs_no_verb(capsys: pytest.CaptureFixture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == ranker.__version__
