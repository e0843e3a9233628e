"""A judged collection of a few dozen documents, in which the right answer can be learned."""

import random
from pathlib import Path

from ranker.dataset import Dataset, load
from ranker.files import write_text

WORDS = (
    "red green blue fox dog cat house tree river stone quick slow lazy brown black white jump "
    "run sleep eat over under apple pear plum ship train road moon sun"
).split()


def write_csv(path: Path, *, queries: int = 12, seed: int = 0) -> Path:
    """Rows query,title,text,label: a title with all words of the query is relevant."""
    draw = random.Random(seed)
    lines = ["query,title,text,label"]
    for _ in range(queries):
        asked = draw.sample(WORDS, 2)
        for label in (1, 1, 0, 0, 0):
            others = [word for word in draw.sample(WORDS, 6) if word not in asked]
            kept = asked if label else asked[:1]
            title = kept + others[:4]
            draw.shuffle(title)
            text = f"It is about {others[0]} and {others[1]}. It ends with a {others[2]} now."
            lines.append(f"{' '.join(asked)},{' '.join(title)},{text},{label}")
    write_text(path, "\n".join(lines) + "\n")
    return path


def small_dataset(folder: Path) -> Dataset:
    """The collection of `write_csv`, loaded."""
    return load(write_csv(folder / "judged.csv"))
