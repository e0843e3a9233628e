"""Evaluate rank profiles on judged queries: run files, latencies, measures and their certainty."""

from ranker.evaluate.artifact import Evaluation
from ranker.evaluate.evaluation import evaluate

__all__ = ["Evaluation", "evaluate"]
