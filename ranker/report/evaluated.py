"""The section of an evaluation: tables and pictures as plain values for the template."""

from collections.abc import Mapping, Sequence
from typing import Any

from ranker.evaluate import Evaluation
from ranker.metrics.plots import BETTER, NEUTRAL, TIME, WORSE, Dot, Strip, strips
from ranker.metrics.significance import TIE
from ranker.report import numbers, words
from ranker.report.examples import examples, query_table
from ranker.report.facts import evaluation_facts

__all__ = ["evaluation_view"]

View = dict[str, Any]

PERCENTILES = ("p50", "p90", "p95", "p99", "mean", "max")


def evaluation_view(
    evaluation: Evaluation, *, training: Mapping[str, Any] | None, ident: str
) -> View:
    """Return everything that the page shows of one evaluation.

    Args:
        evaluation: the folder.
        training: of the evaluated model, if a folder of the report has it.
        ident: prefix of ids, unique in the page.
    """
    data = evaluation.figures["dataset"]
    hits = evaluation.hits()
    return {
        "ident": ident,
        "title": f"{data['name']}, {data['split']}" if data["split"] else data["name"],
        "headline": words.headline(evaluation),
        "recommendation": words.recommendation(evaluation, training),
        "cautions": words.cautions(evaluation, training),
        "queries": data["queries"],
        "measure": evaluation.measures[0],
        "measures": evaluation.measures,
        "profiles": [_profile(evaluation, profile) for profile in evaluation.profiles],
        "hits": evaluation.figures["arguments"]["hits"],
        "comparisons": [_comparison(row) for row in evaluation.comparisons],
        "differences": _differences(evaluation, hits, f"{ident}-differences"),
        "latencies": [_latency(evaluation, profile) for profile in evaluation.profiles],
        "latency_plot": _latency_plot(evaluation, f"{ident}-latency"),
        "examples": examples(evaluation, hits),
        "table": query_table(evaluation, hits),
        "facts": evaluation_facts(evaluation),
    }


def _profile(evaluation: Evaluation, name: str) -> View:
    figures = evaluation.figures["profiles"][name]
    return {
        "name": name,
        "formula": words.formula(evaluation.figures["profile_definitions"][name]),
        "baseline": name == evaluation.baseline and len(evaluation.profiles) > 1,
        "recommended": name == evaluation.figures["recommended_profile"],
        "cells": [
            {
                "mean": numbers.number(figures["mean"][measure]),
                "low": numbers.number(figures["interval"][measure][0]),
                "high": numbers.number(figures["interval"][measure][1]),
                "best": _is_best(evaluation, name, measure),
            }
            for measure in evaluation.measures
        ],
    }


def _is_best(evaluation: Evaluation, name: str, measure: str) -> bool:
    values = [numbers.number(evaluation.mean(p, measure)) for p in evaluation.profiles]
    own = numbers.number(evaluation.mean(name, measure))
    # A large share of judged documents is not a merit, so this row has no winner.
    is_merit = not measure.startswith("Judged")
    return is_merit and own == max(values, key=float) and own != min(values, key=float)


def _comparison(row: Mapping[str, Any]) -> View:
    return {
        **row,
        "difference": numbers.signed(row["mean_difference"]),
        "interval": numbers.interval(row["interval"]),
        "p": numbers.p_value(row["p"]),
        "p_holm": numbers.p_value(row["p_holm"]),
        "verdict": words.verdict(row),
    }


def _differences(evaluation: Evaluation, hits: Mapping[str, Any], ident: str) -> str:
    """Draw the difference of every query and profile to the baseline; nothing if alone."""
    rows = evaluation.comparisons
    if not rows:
        return ""
    measure = evaluation.measures[0]
    return strips(
        [
            Strip(
                label=f"{row['profile']} − {row['baseline']}",
                note=f"{row['wins']} won, {row['ties']} tied, {row['losses']} lost",
                dots=_difference_dots(evaluation, row, hits),
                interval=(row["interval"][0], row["mean_difference"], row["interval"][1]),
            )
            for row in rows
        ],
        ident=ident,
        title=f"Difference in {measure} from {evaluation.baseline}, one dot per query",
        axis=f"difference in {measure} (right of 0: better than {evaluation.baseline})",
    )


def _difference_dots(
    evaluation: Evaluation, row: Mapping[str, Any], hits: Mapping[str, Any]
) -> list[Dot]:
    base = evaluation.per_query(row["baseline"], row["measure"])
    own = evaluation.per_query(row["profile"], row["measure"])
    dots = []
    for query_id, value in own.items():
        gain = value - base[query_id]
        color = NEUTRAL if abs(gain) <= TIE else BETTER if gain > 0 else WORSE
        text = hits["queries"][query_id]["text"]
        dots.append(Dot(gain, color, f"{numbers.signed(gain)}: {text[:80]}"))
    return dots


def _latency(evaluation: Evaluation, name: str) -> View:
    figures = evaluation.figures["profiles"][name]
    server = figures["server_ms"]
    return {
        "name": name,
        "cells": [numbers.milliseconds(figures["latency_ms"][key]) for key in PERCENTILES],
        "server": "–" if server is None else numbers.milliseconds(server["p50"]),
    }


def _latency_plot(evaluation: Evaluation, ident: str) -> str:
    # A logarithmic axis, since profiles with a model take tens of times as long as bm25.
    latencies = evaluation.latencies_ms()
    return strips(
        [_latency_strip(evaluation, name, row) for name, row in latencies.items()],
        ident=ident,
        title="Latency of every search, by profile",
        axis="milliseconds, logarithmic",
        log=True,
    )


def _latency_strip(evaluation: Evaluation, name: str, values: Sequence[float]) -> Strip:
    figures = evaluation.figures["profiles"][name]["latency_ms"]
    half, most = numbers.milliseconds(figures["p50"]), numbers.milliseconds(figures["p95"])
    return Strip(
        label=name,
        note=f"half within {half} ms, 95 % within {most} ms",
        dots=[Dot(max(value, 1e-3), TIME) for value in values],  # 0 has no logarithm
        marks={name: figures[name] for name in ("p50", "p95")},
    )
