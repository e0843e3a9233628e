"""The linter's page: findings, pictures of the collection, checks without findings."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.lint.finding import Finding, LintReport
from ranker.lint.inspection import percent
from ranker.metrics.plots import bars, histogram, share_curve
from ranker.report.shell import rendered, require_page_name, write_page

__all__ = ["page"]

View = dict[str, Any]

MARKED = (10, 20, 100)
"""Depths of the ranking that the picture of holes names."""


def page(report: LintReport, out: Path) -> Path:
    """Write one self-contained HTML page about a collection, and JSON next to it.

    Args:
        report: of `lint`.
        out: the HTML file.

    Returns:
        `out`.

    Raises:
        UsageError: `out` is not the name of a page.
        ArtifactError: `out` cannot be written.
        MissingExtra: jinja2 is not installed.
    """
    require_page_name(out)
    template = resources.files("ranker.lint").joinpath("page.html").read_text("utf-8")
    html = rendered(template, _view(report))
    write_page(out, html, {"ranker_version": __version__, **report.to_dict()})
    return out


def _view(report: LintReport) -> View:
    data = report.data
    name = f"{data['name']}, {data['split']}" if data["split"] else data["name"]
    return {
        "headline": f"{name}: {report.counted()}",
        "facts": _facts(report),
        "findings": [_finding(finding) for finding in report.findings],
        "plots": _plots(report.figures),
        "clean": [(kind.id, kind.about) for kind in report.clean],
        "skipped": [f"{skipped.check}: {skipped.reason}" for skipped in report.skipped],
    }


def _facts(report: LintReport) -> list[tuple[str, str]]:
    data, figures = report.data, report.figures
    splits = ", ".join(f"{name} ({count:,} queries)" for name, count in data["splits"].items())
    facts = [
        ("Documents", f"{data['documents']:,}"),
        ("Judged queries", f"{data['queries']:,}"),
        ("Judgements", f"{data['judgements']:,}"),
        ("Splits", splits),
    ]
    if (first := figures.get("first_phase")) and first["ndcg@10"] is not None:
        facts.append(("BM25", f"nDCG@10 {first['ndcg@10']:.3f} over {first['queries']:,} queries"))
    if "half_width" in figures:
        facts.append(
            (
                "Certainty",
                f"differences of nDCG@10 to about ±{figures['half_width']:.3f} (expected)",
            )
        )
    facts.append(("Duration", f"{report.seconds:.1f} s"))
    return [fact for fact in facts if fact[1]]


def _finding(finding: Finding) -> View:
    return {
        "id": finding.id,
        "severity": finding.severity,
        "title": finding.title,
        "why": finding.kind.why,
        "advice": finding.kind.advice,
        "examples": [
            {"ids": " ".join(example.ids), "text": example.text, "place": example.place or ""}
            for example in finding.examples
        ],
        "has_ids": any(example.ids for example in finding.examples),
        "has_places": any(example.place for example in finding.examples),
    }


def _plots(figures: dict[str, Any]) -> list[View]:
    """Draw the pictures for which there are figures, with captions."""
    plots = []
    if grades := figures.get("grades"):
        caption = "Judgements by grade; grey: not relevant."
        plot = bars(
            grades,
            highlighted=[grade for grade in grades if int(grade) >= figures["min_grade"]],
            axis="grade",
            ident="plot-grades",
            title="Judgements by grade",
        )
        plots.append(_plot("Grades", caption, plot))
    if first := figures.get("first_phase"):
        caption = (
            "Share of unjudged documents among BM25's best, by depth, over the queries with at "
            "least that many hits."
        )
        plot = _holes(first["holes_by_depth"])
        plots.append(_plot("Judgement holes", caption, plot))
    if tokens := figures.get("document_tokens"):
        caption = (
            f"Documents by number of tokens: {percent(tokens['cut'])} are truncated, "
            f"{percent(tokens['lost'])} of all tokens are lost."
        )
        plot = _tokens(tokens, ident="plot-documents", what="Documents")
        plots.append(_plot("Length of documents", caption, plot))
    if tokens := figures.get("query_tokens"):
        plot = _tokens(tokens, ident="plot-queries", what="Judged queries")
        plots.append(_plot("Length of queries", "Judged queries by number of tokens.", plot))
    return plots


def _holes(shares: Sequence[float]) -> str:
    return share_curve(
        shares,
        {depth: percent(shares[depth - 1]) for depth in MARKED if depth <= len(shares)},
        axis="depth of the ranking",
        ident="plot-holes",
        title="Share of unjudged documents among BM25's best",
    )


def _tokens(tokens: Mapping[str, Any], *, ident: str, what: str) -> str:
    slots = tokens["slots"]
    return histogram(
        tokens["counts"],
        width=tokens["width"],
        limit=slots,
        limit_label=f"{slots} tokens fit",
        axis="tokens; the last bar holds all longer ones",
        ident=ident,
        title=f"{what} by number of tokens",
        text=f"half have at most {tokens['median']:,.0f} tokens, the longest "
        f"{tokens['longest']:,}; {slots} fit",
    )


def _plot(title: str, caption: str, plot: str) -> View:
    return {"title": title, "caption": caption, "plot": plot}
