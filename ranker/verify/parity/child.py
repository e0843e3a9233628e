"""The embedded engine in a child process: `python -m ranker.verify.parity.child APP PORT`.

It ends when its standard input is closed, so also if its parent is killed, and then removes its
documents.  An error is written to standard output as one JSON object.
"""

import json
import os
import signal
import sys
import tempfile
import threading
from pathlib import Path

from ranker.engine import serve
from ranker.errors import RankerError


def main(app: str, port: str) -> int:
    """Serve until standard input is closed; return the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # until the engine has its own handler
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="ranker-verify-engine-") as folder:
        try:
            serve(Path(app), data=Path(folder) / "data", port=int(port))
        except RankerError as error:
            json.dump({"error": str(error), "kind": type(error).__name__}, sys.stdout)
            return error.exit_code
    return 0


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
