"""The rank profiles of a model in an existing application."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ranker.artifacts.bundle import Bundle
from ranker.artifacts.calibration import PROBABILITY
from ranker.artifacts.profile import LOGIT, Profile, default_profiles
from ranker.contract import vespa_names
from ranker.errors import ArtifactError, UsageError
from ranker.package.into.application import Application
from ranker.package.into.schema import Schema
from ranker.package.profiles import ProfileContext, render_profiles

__all__ = ["Ranking", "name_profiles", "require_free", "require_heir"]


@dataclass(frozen=True)
class Ranking:
    """Rank profiles to write.

    Attributes:
        texts: name of each profile to its text.
        profiles: what the manifest says of them, the first phase first.
        recommended: name of the profile to use.
    """

    texts: dict[str, str]
    profiles: tuple[Profile, ...]
    recommended: str


def name_profiles(
    bundle: Bundle, context: ProfileContext, name: str, *, inherits: str | None, blend: bool
) -> Ranking:
    """Return the rank profiles of a model in an application.

    Args:
        bundle: the model.
        context: what they read.
        name: the model's name, with which the names of its profiles begin.
        inherits: a profile of the application that gives the first phase, or None for bm25.
        blend: False if a later phase cannot have bm25 of all the fields.
    """
    own = default_profiles(bundle.blend_weight)
    names = {profile.name: f"{name}_{profile.name}" for profile in own}
    profiles = []
    for profile in own:
        if profile.phase == "first" and inherits is not None:
            names[profile.name] = inherits
            profiles.append(Profile(name=inherits, phase="first"))
        elif profile.phase == "first" or blend or not profile.bm25_weight:
            parent = profile.inherits and names[profile.inherits]
            profiles.append(replace(profile, name=names[profile.name], inherits=parent))
    recommended = names[bundle.recommended_profile]
    if recommended not in {profile.name for profile in profiles}:
        recommended = names[vespa_names.CROSS]
    return Ranking(render_profiles(profiles, context), tuple(profiles), recommended)


def require_heir(
    application: Application, schema: Schema, inherits: str, context: ProfileContext
) -> None:
    """Refuse to inherit from a rank profile that is not a possible first phase.

    Raises:
        UsageError: it does not exist, has names that ours need, or ranks after ours.
    """
    chain = application.chain(schema, inherits)
    functions = {name for profile in chain for name in profile.functions}
    inputs = {name for profile in chain for name in profile.inputs}
    ours = {*context.functions, LOGIT, *([PROBABILITY] if context.calibration else [])}
    clash = (functions & ours) | (inputs & set(context.inputs))
    if clash:
        raise UsageError(
            f"rank profile {inherits} has functions or inputs with names that the model needs: "
            f"{', '.join(sorted(clash))}; inherit from one without them"
        )
    if any("global-phase" in profile.phases for profile in chain):
        raise UsageError(
            f"rank profile {inherits} has a global phase, which would rank again after the "
            "cross-encoder; inherit from one without it"
        )


def require_free(application: Application, schema: Schema, names: Iterable[str]) -> None:
    """Refuse names of rank profiles and onnx-models that the application has already.

    Raises:
        ArtifactError: it has one.
    """
    models = application.models(schema)
    near = {profile.name: profile.file for profile in application.profiles_near(schema)}
    for name in names:
        if name in near:
            raise ArtifactError(
                f"{near[name]} has a rank profile {name} already; give the model another --name"
            )
        if name in models:  # our onnx-models are called like their profiles
            raise ArtifactError(
                f"schema {schema.name} has an onnx-model {name} already; give the model another "
                "--name"
            )
