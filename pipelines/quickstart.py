"""The main job end to end, over the docstrings of the running Python's standard library.

    python pipelines/quickstart.py [--work work/quickstart] [--port 8080]

It trains a cross-encoder on judged questions, exports it, packages it for Vespa, serves the
package with the embedded engine, feeds the documents, evaluates on questions that training did
not see, and writes a page.
"""

import argparse
import sys
from pathlib import Path

import stdlib_corpus
import steps

from ranker.dataset import load
from ranker.errors import RankerError

QUESTION = "copy a whole folder with all its subfolders"
"""One of the held-out questions; the page shows those that won most and those that lost most."""


def main(argv: list[str] | None = None) -> int:
    """Run the scenario; 0 if all of it happened."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, default=Path("work/quickstart"))
    parser.add_argument("--port", type=int, default=8080)
    arguments = parser.parse_args(argv)
    work = arguments.work
    settings = steps.read_settings(__file__)

    stdlib_corpus.main(["--out", str(work / "stdlib")])
    judged = load(work / "stdlib", split="train")
    test = load(work / "stdlib", split="test")

    checkpoint, package = steps.build(judged, settings, work)
    with steps.served(package, work, port=arguments.port) as client:
        steps.fill(client, judged)
        evaluation = steps.measure(client, test, settings, work)
        report = steps.conclude(evaluation, checkpoint, work)
        best = package.manifest.recommended_profile
        for profile in dict.fromkeys(("bm25", best)):
            steps.show_hits(client, QUESTION, profile)
    if best != "bm25":
        steps.show_turns(evaluation, test, best)
    print(f"\nrecommended profile: {best}")
    print(f"page: {report}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RankerError as error:
        sys.exit(f"quickstart: error: {error}")
