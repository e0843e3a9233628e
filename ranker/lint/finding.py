"""The results of the linter: findings with examples, and the report that holds them all."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from ranker.contract.encode import sanitize_text

__all__ = ["SEVERITIES", "Example", "Finding", "Kind", "LintReport", "Severity", "Skipped", "clip"]

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""Errors stop `ranker train`; warnings skew metrics or waste training; notes are informational."""

CLIP = 160


@dataclass(frozen=True)
class Example:
    """One occurrence of a finding.

    Attributes:
        ids: ids of the queries and documents, in the order in which `text` names them.
        text: what was found there, on one line.
        place: file and line, if they are known.
    """

    ids: tuple[str, ...]
    text: str
    place: str | None = None


@dataclass(frozen=True)
class Kind:
    """A sort of finding, with what all its findings have in common.

    Attributes:
        id: name in kebab-case; scripts may rely on it.
        about: what is checked for, in a few words.
        why: why it matters.
        advice: what to do about it.
    """

    id: str
    about: str
    why: str
    advice: str

    def finding(
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
        """Return a finding of this kind; see `Finding` for the arguments."""
        return Finding(
            self, severity, title, count, total, unit, tuple(examples), dict(figures or {})
        )


@dataclass(frozen=True)
class Finding:
    """A problem of the collection, or a fact worth knowing.

    Attributes:
        kind: sort of finding, with the reason and the advice.
        severity: error, warning or note.
        title: what was found, in one sentence without a full stop.
        count: number of affected `unit`s.
        total: number of all of them; 0 if a share would mean nothing.
        unit: queries, documents, judgements, rows ...
        examples: the first few occurrences.
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
        """The share of the total, from 0 to 1."""
        return self.count / self.total if self.total else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
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
            "examples": [
                {**asdict(example), "ids": list(example.ids)} for example in self.examples
            ],
            "figures": self.figures,
        }


@dataclass(frozen=True)
class Skipped:
    """A check that was skipped.

    Attributes:
        check: what was not checked, in words.
        reason: why not.
        kinds: ids of the kinds that could therefore not be found.
    """

    check: str
    reason: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class LintReport:
    """Everything that the linter reports about one collection.

    Attributes:
        data: name, split and sizes of the collection.
        findings: the findings, the most severe first.
        clean: kinds that were checked for and not found.
        skipped: checks that were skipped.
        figures: measurements for plots: `grades`, `first_phase`, `document_tokens` ...
        seconds: run time.
    """

    data: dict[str, Any]
    findings: tuple[Finding, ...]
    clean: tuple[Kind, ...]
    skipped: tuple[Skipped, ...]
    figures: dict[str, Any]
    seconds: float

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)

    def finding(self, kind_id: str) -> Finding | None:
        """Return the finding of the kind with that id, or None."""
        return next((finding for finding in self.findings if finding.id == kind_id), None)

    def strict(self) -> "LintReport":
        """Return the same report with every warning raised to an error."""
        raised = [
            replace(finding, severity="error") if finding.severity == "warning" else finding
            for finding in self.findings
        ]
        return replace(self, findings=tuple(raised))

    def counted(self) -> str:
        """Return the number of findings of each severity, in words."""
        parts = []
        for severity in SEVERITIES:
            count = len(self.of(severity))
            parts.append(f"{count or 'no'} {severity}{'' if count == 1 else 's'}")
        return ", ".join(parts)

    def summary(self) -> list[str]:
        """Return errors and warnings, one line each."""
        return [
            f"{finding.severity}: {finding.title} ({finding.id})"
            for finding in self.findings
            if finding.severity != "note"
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "data": self.data,
            "counts": {severity: len(self.of(severity)) for severity in SEVERITIES},
            "findings": [finding.to_dict() for finding in self.findings],
            "clean": [kind.id for kind in self.clean],
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "figures": self.figures,
            "seconds": round(self.seconds, 2),
        }


def clip(text: str, most: int = CLIP) -> str:
    """Return a text for an example: one line, truncated, with unprintable characters escaped."""
    line = " ".join(sanitize_text(text[: 4 * most]).split())
    if len(line) > most:
        line = line[: most - 1].rstrip() + "…"
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in line)


def first(examples: Iterable[Example], most: int) -> tuple[Example, ...]:
    """Return at most `most` examples, each text once."""
    taken: dict[str, Example] = {}
    for example in examples:
        if len(taken) == most:
            break
        taken.setdefault(example.text, example)
    return tuple(taken.values())


def sorted_findings(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the most severe findings first, otherwise in the order in which they were found."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
