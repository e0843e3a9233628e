"""The rank profiles of a model in somebody's application."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ranker.artifacts.bundle import Bundle
from ranker.artifacts.manifest import Profile, default_profiles
from ranker.contract import vespa_names
from ranker.errors import ArtifactError, UsageError
from ranker.package import profiles
from ranker.package.into.application import Application
from ranker.package.into.schema import Schema
from ranker.package.profiles import Layout

__all__ = ["Ranking", "profile_names", "require_free", "require_heir", "write_profiles"]


@dataclass(frozen=True)
class Ranking:
    """Rank profiles to write.

    Attributes:
        texts: name of each profile to its text.
        profiles: what the manifest says of them, the first phase first.
        recommended: the one to use.
    """

    texts: dict[str, str]
    profiles: tuple[Profile, ...]
    recommended: str


def profile_names(name: str) -> dict[str, str]:
    """What the rank profiles of a model are called: ranker's own names to those."""
    return {kind: f"{name}_{kind}" for kind in vespa_names.PROFILES}


def write_profiles(
    bundle: Bundle, layout: Layout, name: str, *, inherits: str | None, blend: bool
) -> Ranking:
    """The rank profiles of a model.

    Args:
        bundle: the model.
        layout: what they read.
        name: the model's name.
        inherits: a profile of the application that gives the first phase, or None for bm25.
        blend: whether bm25 of all the fields can be had.
    """
    names = profile_names(name)
    base = inherits or names[vespa_names.BM25]
    known = {one.name: one for one in default_profiles(bundle.blend_weight)}
    weight = known[vespa_names.BLEND]
    texts = {} if inherits else {base: profiles.bm25_profile(layout, base)}
    cross, cross_global = names[vespa_names.CROSS], names[vespa_names.CROSS_GLOBAL]
    texts[cross] = profiles.cross_profile(layout, cross, inherits=base)
    texts[cross_global] = profiles.cross_global_profile(layout, cross_global, inherits=base)
    if blend:
        texts[names[vespa_names.BLEND]] = profiles.blend_profile(
            layout,
            names[vespa_names.BLEND],
            inherits=cross,
            weight=weight.logit_weight,
            rerank_count=weight.rerank_count,
        )
    theirs = Profile(name=base, phase="first", bm25_weight=0.0, logit_weight=0.0)
    described = [replace(one, name=names[one.name]) for one in known.values()]
    kept = [one for one in described if one.name in texts]
    wanted = names[bundle.recommended_profile]
    if wanted not in texts:
        wanted = base if bundle.recommended_profile == vespa_names.BM25 else cross
    return Ranking(texts, tuple([theirs, *kept] if inherits else kept), wanted)


def require_heir(application: Application, schema: Schema, inherits: str, layout: Layout) -> None:
    """Refuse to inherit from a rank profile that our own cannot stand on.

    Raises:
        UsageError: it does not exist, has names that ours need, or ranks after ours.
    """
    chain = application.chain(schema, inherits)
    functions = {name for one in chain for name in one.functions}
    inputs = {name for one in chain for name in one.inputs}
    clash = (functions & {*layout.functions, "logit"}) | (inputs & set(layout.inputs))
    if clash:
        raise UsageError(
            f"rank profile {inherits} has functions or inputs of the names that the model's need: "
            f"{', '.join(sorted(clash))}; inherit from one without"
        )
    if any("global-phase" in one.phases for one in chain):
        raise UsageError(
            f"rank profile {inherits} has a global phase, which would rank once more after the "
            "cross-encoder; inherit from one without"
        )


def require_free(
    application: Application, schema: Schema, layout: Layout, names: Iterable[str]
) -> None:
    """Refuse names of rank profiles and onnx-models that the application has already.

    Raises:
        ArtifactError: it has one.
    """
    near = {one.name: one.file for one in application.profiles_near(schema)}
    for name in names:
        if name in near:
            raise ArtifactError(
                f"{near[name]} has a rank profile {name} already; give the model another --name"
            )
    for model in {layout.model, f"{layout.model}_global"} & application.models(schema):
        raise ArtifactError(
            f"schema {schema.name} has an onnx-model {model} already; give the model another --name"
        )
