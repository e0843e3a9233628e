"""`python -m ranker`, for launchers that start modules: `torchrun -m ranker train ...`."""

from ranker.cli import main

raise SystemExit(main())
