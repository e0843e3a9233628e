"""What an export of a relevance model passes: the ship gate, and the blend with BM25."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ranker.artifacts.bundle import Checkpoint
from ranker.artifacts.calibration import calibration_of, why_uncalibrated
from ranker.errors import ExportError
from ranker.metrics.gate import caution, shortfall, verdict_of

__all__ = ["about", "pass_gate"]

logger = logging.getLogger(__name__)


def pass_gate(checkpoint: Checkpoint, *, force: bool) -> bool:
    """Return True if the export has to be forced.

    Raises:
        ExportError: the model is not better than BM25, and the export is not forced.
    """
    verdict = verdict_of(checkpoint.training)
    if "origin" in checkpoint.training:
        origin = checkpoint.training["origin"]
        cautions = [f"{origin['name']}: {line}" for line in origin["cautions"]]
        for line in (_untrained(origin), *cautions):
            logger.warning("%s", line)
        return False
    if verdict == "unknown":
        logger.warning("%s", caution(checkpoint.training))
    if verdict != "not_better":
        return False
    if not force:
        raise ExportError(
            f"{checkpoint.path} is not exported: {shortfall(checkpoint.training['gate'])}; "
            "--force exports it anyway"
        )
    logger.warning("exported by force: %s", shortfall(checkpoint.training["gate"]))
    return True


def about(training: Mapping[str, Any]) -> dict[str, Any]:
    """Return what bundle.json says of the blend, the best profile, calibration and verdict."""
    calibration = calibration_of(training)
    return {
        "blend_weight": training["blend_weight"],
        "recommended_profile": training["recommended_profile"],
        "verdict": verdict_of(training),
        "calibration": calibration and asdict(calibration),
        "uncalibrated": None if calibration else why_uncalibrated(training),
    }


def _untrained(origin: Mapping[str, Any]) -> str:
    """Say what is not known of an existing cross-encoder, and how to find out."""
    return (
        f"{origin['name']} was not trained by ranker: the blend's weight is 1.0, not learned, so "
        "the recommended profile is cross, and it is not known to be better than BM25; "
        "`ranker evaluate` measures it, `ranker train --base` learns from judged queries, "
        "including the weight"
    )
