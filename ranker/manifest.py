"""The manifest of an application package: what a client, a feeder or an engine must know of it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ranker.contract import BLEND, BM25, CROSS, CROSS_GLOBAL, RERANK_COUNT
from ranker.errors import ArtifactError, UsageError
from ranker.spec import TokenSpec

__all__ = ["Manifest", "Phase", "Profile", "default_profiles"]

Phase = Literal["first", "second", "global"]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A rank profile: `bm25_weight * bm25(contents) + logit_weight * logit` in one phase.

    Attributes:
        name: the rank profile's name.
        phase: where the score is computed; the phases before it rank by bm25(contents).
        bm25_weight: factor of bm25(contents).
        logit_weight: factor of the cross-encoder's logit; 0 where the model is not used.
        rerank_count: how many of the best documents of the phase before are reranked.
    """

    name: str
    phase: Phase
    bm25_weight: float
    logit_weight: float
    rerank_count: int = RERANK_COUNT

    @property
    def needs_tokens(self) -> bool:
        """Whether a query must bring its token ids."""
        return self.logit_weight != 0


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        application: name of the application.
        namespace: namespace of document ids, as in `id:NAMESPACE:SCHEMA::x`.
        schema: name of the schema, which is also the document type.
        spec: the token contract.
        profiles: the rank profiles.
        recommended_profile: the one that did best on queries held out of training.
        timeout_s: default timeout of a query, seconds.
        model_sha256: hash of the ONNX file.
        ranker_version: version that wrote the package.
    """

    application: str
    namespace: str
    schema: str
    spec: TokenSpec
    profiles: tuple[Profile, ...]
    recommended_profile: str
    timeout_s: float
    model_sha256: str
    ranker_version: str

    def profile(self, name: str) -> Profile:
        """The profile of that name.

        Raises:
            UsageError: there is none; the message lists those there are.
        """
        for profile in self.profiles:
            if profile.name == name:
                return profile
        known = ", ".join(profile.name for profile in self.profiles)
        raise UsageError(f"unknown rank profile {name!r}; the application has: {known}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the fingerprint is added for people to read."""
        return {
            **asdict(self),
            "spec": self.spec.to_dict(),
            "profiles": [asdict(profile) for profile in self.profiles],
            "fingerprint": self.spec.fingerprint,
        }

    @classmethod
    def from_dict(cls, values: Any, *, where: str = "manifest.json") -> "Manifest":
        """The manifest of a JSON value that came from `where`.

        Raises:
            ArtifactError: the value is not a manifest.
            SpecError: its token contract is impossible.
        """
        try:
            rest = {key: values[key] for key in cls.__dataclass_fields__}
            rest["spec"] = TokenSpec.from_dict(values["spec"])
            rest["profiles"] = tuple(Profile(**profile) for profile in values["profiles"])
            return cls(**rest)
        except KeyError as error:
            raise ArtifactError(
                f"{where} is not a manifest of ranker: {error} is missing"
            ) from error
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{where} is not a manifest of ranker: {error}") from error


def default_profiles(blend_weight: float) -> tuple[Profile, ...]:
    """The four profiles that every package has."""
    return (
        Profile(name=BM25, phase="first", bm25_weight=1.0, logit_weight=0.0),
        Profile(name=CROSS, phase="second", bm25_weight=0.0, logit_weight=1.0),
        Profile(name=CROSS_GLOBAL, phase="global", bm25_weight=0.0, logit_weight=1.0),
        Profile(name=BLEND, phase="second", bm25_weight=1.0, logit_weight=blend_weight),
    )
