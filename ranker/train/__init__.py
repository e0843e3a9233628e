"""Fine-tuning a cross-encoder: an optional stage on the corpus, then one on judged queries."""

from ranker.train.arguments import TrainArguments
from ranker.train.stages import train

__all__ = ["TrainArguments", "train"]
