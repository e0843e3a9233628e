"""The embedded engine as a child: `python -m ranker.verify.parity.child APP PORT`.

It ends when its standard input does, so also when its parent was killed, and takes its documents
with it.  One line on standard output: `{}` when it serves, else why not.
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
    """Serve until standard input ends; the exit status."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # until the engine has its own
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="ranker-verify-engine-") as folder:
        data = Path(folder) / "data"
        try:
            serve(Path(app), data=data, port=int(port), on_start=lambda: _say({}))
        except RankerError as error:
            _say({"error": str(error), "kind": type(error).__name__})
            return error.exit_code
    return 0


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def _say(value: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
