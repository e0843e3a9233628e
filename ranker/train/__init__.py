"""Fine-tuning a cross-encoder: an optional stage on the corpus, then one on judged queries."""

from ranker.train.arguments import TrainArguments
from ranker.train.evidence import Provenance, provenance
from ranker.train.processes import is_first
from ranker.train.repeat import repeat
from ranker.train.run import train

__all__ = ["Provenance", "TrainArguments", "is_first", "provenance", "repeat", "train"]
