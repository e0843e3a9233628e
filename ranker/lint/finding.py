"""What the linter says: findings with examples, and the report that holds them all."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ranker.contract.encode import sanitize_text

__all__ = ["SEVERITIES", "Example", "Finding", "Kind", "LintReport", "Severity", "Skipped", "clip"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""An error stops `ranker train`; a warning bends figures or wastes learning; a note is to know."""

CLIP = 160


@dataclass(frozen=True)
class Example:
    """One place where a finding shows.

    Attributes:
        ids: of the queries and documents, in the order in which `text` speaks of them.
        text: what is there, on one line.
        place: file and line, where they are known.
    """

    ids: tuple[str, ...]
    text: str
    place: str | None = None


@dataclass(frozen=True)
class Kind:
    """A sort of finding: what is looked for, and what is the same each time it is found.

    Attributes:
        id: in kebab-case; scripts may rely on it.
        about: what is looked for, in a few words.
        why: why it matters.
        advice: what to do.
    """

    id: str
    about: str
    why: str
    advice: str

    def found(
        self,
        severity: Severity,
        title: str,
        *,
        count: int,
        total: int,
        unit: str,
        examples: Iterable[Example] = (),
        figures: dict[str, Any] | None = None,
    ) -> "Finding":
        """A finding of this kind; see `Finding` for the arguments."""
        return Finding(
            self, severity, title, count, total, unit, tuple(examples), dict(figures or {})
        )


@dataclass(frozen=True)
class Finding:
    """Something about the collection that one should know.

    Attributes:
        kind: what sort, with the reason and the advice.
        severity: error, warning or note.
        title: what was found, in one sentence without a full stop.
        count: how many of `unit`.
        total: of how many; 0 where a share says nothing.
        unit: queries, documents, judgements, rows ...
        examples: the first few.
        figures: further numbers, by name.
    """

    kind: Kind
    severity: Severity
    title: str
    count: int
    total: int
    unit: str
    examples: tuple[Example, ...] = ()
    figures: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The kind's id."""
        return self.kind.id

    @property
    def share(self) -> float | None:
        """Count of total, from 0 to 1."""
        return self.count / self.total if self.total else None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "severity": self.severity,
            "title": self.title,
            "count": self.count,
            "total": self.total or None,
            "share": self.share,
            "unit": self.unit,
            "why": self.kind.why,
            "advice": self.kind.advice,
            "examples": [{**asdict(one), "ids": list(one.ids)} for one in self.examples],
            "figures": self.figures,
        }


@dataclass(frozen=True)
class Skipped:
    """A check that was not made, and why.

    Attributes:
        check: what was not looked for, in words.
        reason: why.
        kinds: ids of the findings that could therefore not be made.
    """

    check: str
    reason: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class LintReport:
    """Everything that the linter says about one collection.

    Attributes:
        data: name, split, sizes and grades of the collection.
        findings: the worst first.
        clean: kinds that were looked for and not found.
        skipped: checks that were not made.
        figures: measured on the way, for plots: `grades`, `first_phase`, `slots`.
        seconds: how long it took.
    """

    data: dict[str, Any]
    findings: tuple[Finding, ...]
    clean: tuple[Kind, ...]
    skipped: tuple[Skipped, ...]
    figures: dict[str, Any]
    seconds: float

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def finding(self, kind_id: str) -> Finding | None:
        """The finding with that id, if there is one."""
        return next((finding for finding in self.findings if finding.id == kind_id), None)

    def strict(self) -> "LintReport":
        """The same report with every warning raised to an error."""
        raised = [
            replace(finding, severity="error") if finding.severity == "warning" else finding
            for finding in self.findings
        ]
        return replace(self, findings=tuple(raised))

    def counted(self) -> str:
        """Number of findings by severity, in words."""
        parts = []
        for severity in SEVERITIES:
            count = len(self.of(severity))
            parts.append(f"{count or 'no'} {severity}{'' if count == 1 else 's'}")
        return ", ".join(parts)

    def summary(self) -> list[str]:
        """Errors and warnings, one line each; empty where there are none."""
        return [
            f"{finding.severity}: {finding.title} ({finding.id})"
            for finding in self.findings
            if finding.severity != "note"
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "data": self.data,
            "counts": {severity: len(self.of(severity)) for severity in SEVERITIES},
            "findings": [finding.to_dict() for finding in self.findings],
            "clean": [kind.id for kind in self.clean],
            "skipped": [asdict(one) for one in self.skipped],
            "figures": self.figures,
            "seconds": round(self.seconds, 2),
        }


def clip(text: str, most: int = CLIP) -> str:
    """A text for an example: on one line, cut, every character that does not print escaped."""
    line = " ".join(sanitize_text(text[: 4 * most]).split())
    if len(line) > most:
        line = line[: most - 1].rstrip() + "…"
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)


def first(examples: Iterable[Example], most: int) -> tuple[Example, ...]:
    """At most so many examples; those of one text once."""
    taken: dict[str, Example] = {}
    for example in examples:
        if len(taken) == most:
            break
        taken.setdefault(example.text, example)
    return tuple(taken.values())


def sorted_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first; of one severity, in the order in which they were found."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
