"""`python -m ranker.cli` is the program `ranker`."""

import sys

from ranker.cli.app import main

sys.exit(main())
