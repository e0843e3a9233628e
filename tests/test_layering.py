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
    {"api"},
    {"cli"},
    {"__main__"},
]
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
ENGINE_ORDER = (
    "errors", "documents", "query", "storage", "rank", "http", "vespa_compat", "server",
)  # fmt: skip
HEAVY = {
    "torch", "transformers", "accelerate", "vespa", "onnx", "onnxruntime", "tantivy", "lark",
    "granian", "starlette", "ir_measures", "ir_datasets", "matplotlib", "pandas", "pyarrow",
    "scipy",
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


def name_of(path: Path) -> str:
    """The dotted name of a module; that of its folder for an `__init__`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path, known: set[str]) -> set[str]:
    """The modules of ranker that a module imports by name, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= full & known or {node.module} & known
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names} & known
    return names - {"ranker"}


def circle(edges: dict[str, set[str]]) -> list[str]:
    """A path from a node to itself, or nothing."""
    done: set[str] = set()
    for start in edges:
        path, stack = [start], [iter(edges[start] - done)]
        while stack and start not in done:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
                done.add(path.pop())
            elif following in path:
                return [*path[path.index(following) :], following]
            elif following not in done:
                path.append(following)
                stack.append(iter(edges.get(following, set()) - done))
    return []


def test_circle_finds_one() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    known = {name_of(path): path for path in PACKAGE.rglob("*.py")}
    edges = {name: imported_modules(path, set(known)) for name, path in known.items()}
    assert sum(map(len, edges.values())) > 300
    assert circle(edges) == []


def test_folders_do_not_import_each_other_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for path in MODULES:
        found = imported(ast.parse(path.read_text(encoding="utf-8")))
        edges.setdefault(part_of(path), set()).update(found - {part_of(path)})
    assert circle(edges) == []


def test_folders_of_the_engine_import_in_one_order() -> None:
    place = {f"ranker.engine.{part}": number for number, part in enumerate(ENGINE_ORDER)}
    engine = [path for path in (PACKAGE / "engine").rglob("*.py") if path.name[:2] != "__"]
    known = {name_of(path): place[".".join(name_of(path).split(".")[:3])] for path in engine}
    assert set(known.values()) == set(place.values())
    for path in engine:
        for name in imported_modules(path, set(known)):
            assert known[name] <= known[name_of(path)], f"{name_of(path)} imports {name}"


def test_a_folder_can_be_taken_in_at_a_glance() -> None:
    sizes = {
        folder: len([p for p in folder.glob("*.py") if not p.name.startswith("__")])
        for folder in {path.parent for path in PACKAGE.rglob("*.py")}
    }
    assert len(sizes) >= 20
    assert {f.name: size for f, size in sizes.items() if size > 12} == {}
    assert sizes[PACKAGE] <= 4, "not counting __init__ and __main__"


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
