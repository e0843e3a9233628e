"""The project's texts avoid phrases that a native engineer would not write."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXTS = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("benchmarks/*.md"),
    *(
        path
        for folder in ("ranker", "pipelines", "examples", "benchmarks", "docs", "tests")
        for kind in ("py", "html", "toml", "java")
        for path in ROOT.glob(f"{folder}/**/*.{kind}")
        if path != Path(__file__)
    ),
]

WRONG = {
    r"\ba(nother)? package index": "PyPI (or a mirror)",
    r"what that is worth": "limitations",
    r"(worth|waste) (less than they seem|learning)": "problems; waste training",
    r"gets? no better": "no longer improves",
    r"\bothers (had )?trained": "existing, third-party",
    r"still lies|lies about": "is unchanged",
    r"\b(go|goes|going|gone|went) on\b": "continue, resume",
    r"\banew\b": "again",
    r"leads? back to": "retrieves the source document",
    r"but for (rounding|what)": "up to rounding",
    r"all (that )?it promised": "full success",
    r"on misuse|\bmisuse is\b": "usage errors",
    r"is said to be, never": "reported as skipped",
    r"\bthat cannot be\b[.,;:]": "invalid",
    r"\bwhatever\b": "regardless of",
    r"a fault of ranker": "a bug in ranker",
    r"Its peak learning rate": "the whole noun",
    r"\b(nobody|somebody)\b": "the passive",
    r"Lowest grade of": "minimum grade of a positive",
    r"Count and list bad": "report malformed rows and continue",
    r"notes are to know": "notes are informational",
    r"ended by itself": "exited unexpectedly",
    r"ended at its start": "exited during startup",
    r"the disk refuses": "a write to disk failed",
    r"(?<!there )\bis no (?!longer\b|more\b|less\b|better\b|worse\b)": "is not a",
    r"\bare no (?!longer\b|more\b)(?<!there are no )": "are not",
    r"\bso many\b": "the number",
    r"\bmade-up\b": "synthetic",
    r"\bparted\b": "separated",
    r"\bseldom\b": "rarely",
    r", too\b(?! (many|few|much|long|short|large|small|old|big))": "also",
    r"\bblanks?\b(?! lines?\b)": "space",
    r"\bbeside\b": "next to, alongside",
    r"\b(lies?|lay|lying) (in|on|at|there|beside|beneath|under|below|above|where)\b": "is stored",
    r"\b(vespa-facts|house-plan|design\.md)\b|\.\./shared": "the project speaks of itself alone",
    r"\b(twofold|thrice|yonder|whence|hitherto)\b": "common words",
}


def findings(path: Path) -> Iterator[str]:
    """Yield file, line and the better wording for each phrase that is found."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        for pattern, better in WRONG.items():
            for found in re.finditer(pattern, line):
                place = f"{path.relative_to(ROOT)}:{number}"
                yield f"{place}: {found[0]!r}: better: {better}"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("training goes on", 1),
        ("there is no model, and it is no longer there", 0),
        ("a folder that is no checkpoint", 1),
        ("a blank line, and a blank in a name", 1),
        ("nobody judged so many, too", 3),
    ],
)
def test_phrases_are_found(line: str, wrong: int) -> None:
    assert sum(len(re.findall(pattern, line)) for pattern in WRONG) == wrong


def test_texts_are_in_natural_english() -> None:
    assert len(TEXTS) > 250
    found = [finding for path in sorted(set(TEXTS)) for finding in findings(path)]
    assert not found, f"{len(found)} phrases:\n" + "\n".join(found[:60])
