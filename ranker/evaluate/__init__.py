"""Rank profiles over judged queries: run files, latencies, measures, and how sure they are."""

from ranker.evaluate.artifact import Evaluation
from ranker.evaluate.evaluation import evaluate
from ranker.metrics.significance import Comparison, compare, holm, intervals

__all__ = ["Comparison", "Evaluation", "compare", "evaluate", "holm", "intervals"]
