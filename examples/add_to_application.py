"""Add a reranker to an existing Vespa application, after showing the change.

python examples/add_to_application.py BUNDLE my-app product title,description

It edits a single block of one schema and adds new files; `ranker package --into my-app --remove
ranker` takes all of it out again.
"""

import sys
from pathlib import Path

import ranker
from ranker.artifacts.bundle import Bundle
from ranker.package.into import install


def main(bundle: str, application: str, schema: str, text_fields: str) -> None:
    """Print the change as a diff, ask, and apply it."""
    plan = install(
        Bundle.open(Path(bundle)),
        Path(application),
        schema=schema,
        text_fields=text_fields.split(","),
    )
    print(plan.diff())
    if input("apply this change? [y/N] ") == "y":
        plan.apply()
        print("\n".join(plan.summary()))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except ranker.RankerError as error:
        sys.exit(f"error: {error}")
