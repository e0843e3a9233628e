"""A rank profile as one value: the only place that says how a score is made.

The application package renders it, the embedded engine and `ranker verify` compute it, and the
blend's weight is learned for it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from ranker.contract.vespa_names import BLEND, BM25, CROSS, CROSS_GLOBAL, RERANK_COUNT

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["LOGIT", "Phase", "Profile", "blend", "default_profiles"]

Phase = Literal["first", "second", "global"]

LOGIT = "logit"
"""The function of a rank profile that gives the cross-encoder's logit."""

Scores = TypeVar("Scores", float, "npt.NDArray[np.float64]")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A rank profile: `bm25_weight * bm25 + logit_weight * logit` in one phase.

    `bm25` is the sum over the manifest's `match_fields`.  Where both weights are 0, the profile is
    one that the application had already.

    Attributes:
        name: the rank profile's name.
        phase: where the score is computed.
        bm25_weight: factor of bm25.
        logit_weight: factor of the cross-encoder's logit; 0 where the model is not used.
        rerank_count: how many of the best documents of the earlier phase are reranked.
        inherits: the rank profile that gives the earlier phases, or None; a profile inherits the
            model from it if it has one.
    """

    name: str
    phase: Phase
    bm25_weight: float = 0.0
    logit_weight: float = 0.0
    rerank_count: int = RERANK_COUNT
    inherits: str | None = None

    @property
    def needs_tokens(self) -> bool:
        """True if a query must bring its token ids."""
        return self.logit_weight != 0

    def expression(self, bm25: str) -> str:
        """Return the score as a ranking expression.

        Args:
            bm25: the expression of bm25.
        """
        if self.bm25_weight not in (0, 1) and " " in bm25:
            bm25 = f"({bm25})"
        terms = ((self.bm25_weight, bm25), (self.logit_weight, LOGIT))
        return " + ".join(_times(weight, term) for weight, term in terms if weight) or "0"

    def score(self, bm25: Scores, logit: Scores) -> Scores:
        """Return the score of a document, or of many, as the expression gives it."""
        score = bm25 * self.bm25_weight
        # A logit that is not used may be absent, that is NaN.
        return score + logit * self.logit_weight if self.logit_weight else score


def blend(weight: float) -> Profile:
    """Return the blend of BM25 and `weight` times the logit."""
    return Profile(name=BLEND, phase="second", bm25_weight=1.0, logit_weight=weight, inherits=CROSS)


def default_profiles(blend_weight: float) -> tuple[Profile, ...]:
    """Return the rank profiles of every package, each after the one that it inherits from."""
    return (
        Profile(name=BM25, phase="first", bm25_weight=1.0),
        Profile(name=CROSS, phase="second", logit_weight=1.0, inherits=BM25),
        Profile(name=CROSS_GLOBAL, phase="global", logit_weight=1.0, inherits=BM25),
        blend(blend_weight),
    )


def _times(weight: float, term: str) -> str:
    """Write `weight * term` with all digits that the weight has."""
    short = f"{weight:g}"
    number = short if float(short) == weight else repr(weight)
    return term if weight == 1 else f"{number} * {term}"
