"""The evaluation folder on disk, which `ranker evaluate` writes and `ranker report` reads."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.artifacts.bundle import check_hashes
from ranker.errors import ArtifactError
from ranker.evaluate.searching import RankedQuery
from ranker.files import read_json, write_text
from ranker.metrics.measures import trec_run

__all__ = ["FORMAT", "Evaluation", "write_latencies", "write_run"]

FORMAT = 1
"""Version of the layout of `evaluation.json`."""
LATENCY_COLUMNS = ("query_id", "profile", "latency_ms", "server_ms")


@dataclass(frozen=True)
class Evaluation:
    """Figures of rank profiles over judged queries.

    Files: `evaluation.json` (the figures), `PROFILE.run` (TREC run files), `latency.csv`,
    `hits.json` (the best documents of each query, for people to read), `hashes.json`.

    Attributes:
        path: the folder.
        figures: the content of `evaluation.json`.
    """

    path: Path
    figures: dict[str, Any]

    MARKER = "evaluation.json"

    @classmethod
    def open(cls, path: Path) -> "Evaluation":
        """Read an evaluation folder.

        Raises:
            ArtifactError: the folder is not an evaluation, is of another version, or a file was
                changed.
        """
        figures = read_json(path / cls.MARKER, what="evaluation of `ranker evaluate`")
        version = figures.get("format") if isinstance(figures, dict) else None
        if version != FORMAT:
            raise ArtifactError(
                f"{path / cls.MARKER}: expected format {FORMAT}, got {version}; "
                "make it again: ranker evaluate"
            )
        check_hashes(path, what="evaluation", make="ranker evaluate")
        return cls(path, figures)

    @property
    def profiles(self) -> list[str]:
        """Names of the profiles, in the order in which they were requested."""
        return list(self.figures["arguments"]["profiles"])

    @property
    def measures(self) -> list[str]:
        """Names of the measures; profiles are compared on the first one."""
        return list(self.figures["arguments"]["measures"])

    @property
    def baseline(self) -> str:
        """The profile that the others are compared with."""
        return str(self.figures["baseline"])

    @property
    def comparisons(self) -> list[dict[str, Any]]:
        """The comparisons of every other profile with the baseline."""
        return list(self.figures["comparisons"])

    def mean(self, profile: str, measure: str) -> float:
        """Return the mean of a measure over all judged queries."""
        return float(self.figures["profiles"][profile]["mean"][measure])

    def per_query(self, profile: str, measure: str) -> dict[str, float]:
        """Return the values of a measure by query id."""
        return dict(self.figures["profiles"][profile]["per_query"][measure])

    def run(self, profile: str) -> Path:
        """Return the path of a profile's TREC run file."""
        return self.path / f"{profile}.run"

    def hits(self) -> dict[str, Any]:
        """Read the queries and documents to show: `{"queries": …, "documents": …}`."""
        return dict(read_json(self.path / "hits.json", what="evaluation"))

    def latencies_ms(self) -> dict[str, list[float]]:
        """Read the latencies measured by the client, by profile.

        Raises:
            ArtifactError: `latency.csv` is missing or damaged.
        """
        path = self.path / "latency.csv"
        values: dict[str, list[float]] = {profile: [] for profile in self.profiles}
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    values[row["profile"]].append(float(row["latency_ms"]))
        except (OSError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"{path} is missing or damaged ({error}); make it again: ranker evaluate"
            ) from error
        return values


def write_run(path: Path, rankings: Iterable[RankedQuery], *, profile: str) -> None:
    """Write the rankings of one profile as a TREC run file."""
    rows = ((ranking.query_id, ranking.hits) for ranking in rankings if ranking.profile == profile)
    write_text(path, trec_run(rows, tag=f"ranker-{profile}"))


def write_latencies(path: Path, rankings: Sequence[RankedQuery]) -> None:
    """Write the latency of every search."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LATENCY_COLUMNS)
    for ranking in rankings:
        server = "" if ranking.server_ms is None else f"{ranking.server_ms:.3f}"
        writer.writerow([ranking.query_id, ranking.profile, f"{ranking.latency_ms:.3f}", server])
    write_text(path, text.getvalue())
