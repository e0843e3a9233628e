"""Start-up: `import ranker`, and `ranker query` against a running engine.

python benchmarks/startup.py APP QUESTION --url http://127.0.0.1:8080 [--rounds 7]
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    """Time both as whole processes, interleaved with an empty Python."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("app", type=Path)
    parser.add_argument("question")
    parser.add_argument("--url", required=True)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    program = str(Path(sys.executable).with_name("ranker"))
    query = [program, "query", arguments.question, "--app", str(arguments.app)]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import ranker": [sys.executable, "-c", "import ranker"],
        "ranker query --print": [*query, "--print"],
        "ranker query bm25": [*query, "--url", arguments.url, "--profile", "bm25"],
        "ranker query blend": [*query, "--url", arguments.url, "--profile", "blend"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(arguments.rounds + 1):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if round_:
                times[name].append(time.perf_counter() - start)
    for name, values in times.items():
        print(f"{name:22} {1000 * statistics.median(values):7.0f} ms")


if __name__ == "__main__":
    main()
