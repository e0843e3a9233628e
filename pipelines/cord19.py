"""The article's experiment: a CSV of query, title, label to an evaluated Vespa cross-encoder.

    python pipelines/cord19.py cord19-query-title-label.csv [--work work/cord19] [--port 8080]

The CSV has no split, so 30 % of its queries are held out for the evaluation, by query.
"""

import argparse
import sys
from pathlib import Path

import steps

from ranker.dataset import load, split_queries
from ranker.errors import RankerError


def main(argv: list[str] | None = None) -> int:
    """Run the scenario; 0 if all of it happened."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("csv", type=Path, help="rows of query,title,label")
    parser.add_argument("--work", type=Path, default=Path("work/cord19"))
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args(argv)
    work = arguments.work
    settings = steps.read_settings(__file__)

    # Two papers of the data share a title and contradict each other: such rows are listed.
    collection = load(arguments.csv, skip_bad=True)
    judged, test = split_queries(collection, held_out=0.3, seed=0)

    checkpoint, package = steps.build(judged, settings, work)
    with steps.served(package, work, port=arguments.port) as client:
        steps.fill(client, collection)
        evaluation = steps.measure(client, test, settings, work)
        report = steps.conclude(evaluation, checkpoint, work)
    print(f"\nrecommended profile: {package.manifest.recommended_profile}")
    print(f"page: {report}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RankerError as error:
        sys.exit(f"cord19: error: {error}")
