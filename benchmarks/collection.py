"""Synthetic documents as JSON lines, as many as asked for, for the memory benchmarks.

python benchmarks/collection.py 1000000 > corpus.jsonl
"""

import json
import random
import sys

WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in ("a", "or", "in", "est") for c in "nprstvz"]


def main() -> None:
    """Write documents with a title of 8 words and a text of 40 words."""
    draw = random.Random(0)
    for number in range(int(sys.argv[1])):
        title, text = draw.choices(WORDS, k=8), draw.choices(WORDS, k=40)
        row = {"_id": f"d{number}", "title": " ".join(title), "text": " ".join(text)}
        sys.stdout.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
