"""Run the embedded engine: `python -m ranker.engine [APP] --data DIR [--port N] …`."""

import argparse
import logging
import sys
from pathlib import Path

from ranker.engine import serve
from ranker.errors import RankerError


def main() -> int:
    """Serve until stopped; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ranker.engine", description=__doc__)
    parser.add_argument("app", type=Path, nargs="?", help="folder of the application package")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of the documents; made if it is missing"
    )
    parser.add_argument("--config-port", type=int, help="second port; `vespa deploy` uses 19071")
    parser.add_argument(
        "--deploy", action="store_true", help="serve APP even if another package was deployed later"
    )
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        serve(**vars(arguments))
    except RankerError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
