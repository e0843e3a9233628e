"""Imports point one way, heavy libraries stay behind a door (ARCHITECTURE.md, rows)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ranker

PACKAGE = Path(ranker.__file__).parent
ROWS = [
    {"errors", "records", "files"},
    {"contract"},
    {"artifacts", "lexical", "metrics"},
    {"dataset"},
    {"model"},
    {"train"},
    {"export"},
    {"package"},
    {"client"},
    {"deploy", "feed", "engine"},
    {"evaluate", "report", "lint", "verify"},
    {"cli"},
    {"__main__"},
]
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
HEAVY = {
    "torch", "transformers", "accelerate", "vespa", "onnx", "onnxruntime", "tantivy", "lark",
    "granian", "starlette", "ir_measures", "ir_datasets", "matplotlib", "pandas", "pyarrow",
}  # fmt: skip


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = [path for path in PACKAGE.rglob("*.py") if part_of(path) != "__init__"]


def imported(tree: ast.AST) -> set[str]:
    """Parts of ranker that a module imports, at its top or inside its functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "ranker":
                found |= {alias.name for alias in node.names}
            elif node.module.startswith("ranker."):
                found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("ranker.")}
    return found & set(ROW_OF)


def test_every_module_has_a_row() -> None:
    assert len(MODULES) > 30
    assert {part_of(path) for path in MODULES} == set(ROW_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path: Path) -> None:
    here = part_of(path)
    wrong = {
        name
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if ROW_OF[name] > ROW_OF[here]
    }
    assert not wrong, f"{here} (row {ROW_OF[here]}) imports {wrong} from below it"


def test_parts_of_one_row_do_not_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        edges.setdefault(part_of(path), set()).update(imported(tree) - {part_of(path)})
    for name in edges:
        reached, stack = set(), list(edges[name])
        while stack:
            part = stack.pop()
            if part not in reached:
                reached.add(part)
                stack += edges.get(part, ())
        assert name not in reached, f"{name} imports itself by way of {reached}"


@pytest.mark.parametrize("module", ["ranker", "ranker.client.search", "ranker.feed", "ranker.cli"])
def test_importing_loads_no_heavy_library(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not HEAVY & set(result.stdout.split())


def test_public_names_are_sorted_and_there() -> None:
    assert ranker.__all__ == sorted(ranker.__all__)
    assert all(hasattr(ranker, name) for name in ranker.__all__)
