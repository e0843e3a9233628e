"""Rank profiles as text, each in a file of its own: `schemas/SCHEMA/NAME.profile`.

pyvespa cannot write such files.  One must begin with the word `rank-profile`: Vespa refuses a
comment before it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ranker.artifacts.calibration import PROBABILITY, Calibration
from ranker.artifacts.profile import LOGIT, Profile
from ranker.contract import vespa_names
from ranker.contract.spec import TokenSpec
from ranker.contract.storage import FLOAT, Storage, TensorType

__all__ = ["ProfileContext", "render_profiles"]

_PURPOSES = {
    "first": "First phase of every profile.",
    "second": "Reranks the best documents of the first phase, on the content nodes.",
    "global": "Reranks the best documents of all nodes, in the container; a GPU is possible.",
}
_DOCUMENT_IDS = "document_ids"


@dataclass(frozen=True, kw_only=True)
class ProfileContext:
    """What the rank profiles of one model read: fields, files and the token contract.

    Attributes:
        spec: the token contract.
        storage: the form of a document's token ids.
        model_file: the model's file in the application package.
        match_fields: fields whose bm25 is summed.
        shown_fields: fields whose bm25 is a match feature.
        token_field: field with a document's token ids.
        fingerprint_field: field with the fingerprint under which they were made.
        show_logit: True if the hits of a page carry the logit, and the probability where there is
            a calibration; they are computed again for them.
        calibration: the logit as a probability; None if that is not known.
    """

    spec: TokenSpec
    storage: Storage
    model_file: str
    match_fields: tuple[str, ...]
    shown_fields: tuple[str, ...]
    token_field: str
    fingerprint_field: str
    show_logit: bool
    calibration: Calibration | None

    @property
    def token_type(self) -> TensorType:
        """The type of the field with a document's token ids."""
        return self.storage.tensor_type(self.spec.document_tokens)

    @property
    def bm25(self) -> str:
        """The ranking expression of bm25."""
        return " + ".join(f"bm25({field})" for field in self.match_fields)

    @property
    def inputs(self) -> dict[str, str]:
        """What a query brings: name to type."""
        return {
            vespa_names.QUERY_TOKEN_IDS: str(FLOAT.tensor_type(self.spec.query_tokens)),
            vespa_names.QUERY_TOKEN_FINGERPRINT: "double",
        }

    @property
    def functions(self) -> dict[str, str]:
        """Functions that put the pair together, one for each input of the model.

        Vespa's own token functions know BERT's ids only (101, 102, padding 0, one separator); for
        every other family the same tensors are written out (checked with Vespa's evaluator).
        """
        spec = self.spec
        query, document = f"query({vespa_names.QUERY_TOKEN_IDS})", f"attribute({self.token_field})"
        functions = {}
        unpacked = self.storage.expression(document)
        if unpacked != document:
            # The token functions take a name, not an expression.
            document = _DOCUMENT_IDS
            functions[document] = unpacked
        if (spec.cls_id, spec.sep_id, spec.pad_id, spec.separators) != (101, 102, 0, 1):
            return functions | _explicit_functions(spec, query, document)
        calls = ("tokenInputIds", "tokenAttentionMask", "tokenTypeIds")
        for name, call in zip(spec.model_inputs, calls, strict=False):
            functions[name] = f"{call}({spec.length}, {query}, {document})"
        return functions


def render_profiles(profiles: Sequence[Profile], context: ProfileContext) -> dict[str, str]:
    """Return the text of each rank profile by its name, without those of the application's own.

    Args:
        profiles: the rank profiles of one model.
        context: what they read.
    """
    known = {profile.name: profile for profile in profiles}
    texts = {}
    for profile in profiles:
        if not profile.bm25_weight and not profile.logit_weight:
            continue
        ancestors = list(_ancestors(profile, known))
        # Vespa would run the phase of an ancestor as well, the embedded engine would not.
        assert all(ancestor.phase in ("first", profile.phase) for ancestor in ancestors)
        has_model = any(ancestor.needs_tokens for ancestor in ancestors)
        texts[profile.name] = _render(
            profile, context, adds_model=profile.needs_tokens and not has_model
        )
    return texts


def _ancestors(profile: Profile, known: dict[str, Profile]) -> Iterator[Profile]:
    """Yield the known profiles that a profile inherits from, the nearest first."""
    while profile.inherits in known:
        profile = known[profile.inherits]
        yield profile


def _render(profile: Profile, context: ProfileContext, *, adds_model: bool) -> str:
    heritage = f" inherits {profile.inherits}" if profile.inherits else ""
    count = f"\n        rerank-count: {profile.rerank_count}" if profile.phase != "first" else ""
    features = [f"bm25({field})" for field in context.shown_fields]
    parts = [f"    # {_PURPOSES[profile.phase]}"]
    if adds_model:
        # Names of onnx-models must be unique in a schema, and those of rank profiles are.
        parts.append(_model(context, profile.name))
        features.append(f"attribute({context.fingerprint_field})")
    parts.append(
        f"    {profile.phase}-phase {{{count}\n"
        f"        expression: {profile.expression(context.bm25)}\n"
        "    }"
    )
    if adds_model or profile.inherits is None:
        parts.append(f"    match-features: {' '.join(features)}")
    if adds_model and profile.phase == "second" and context.show_logit:
        shown = f"{LOGIT} {PROBABILITY}" if context.calibration else LOGIT
        parts.append(
            "    # Computed only for the hits of a page, and not for the summary class `ids`.\n"
            f"    summary-features: {shown}"
        )
    body = "\n".join(parts)
    return f"rank-profile {profile.name}{heritage} {{\n{body}\n}}\n"


def _model(context: ProfileContext, name: str) -> str:
    """Return inputs, token functions, onnx-model and the functions of its logit, indented."""
    inputs = "".join(f"        query({input_}) {kind}\n" for input_, kind in context.inputs.items())
    functions = _functions(context.functions)
    output = {LOGIT: f"onnx({name}).{vespa_names.ONNX_OUTPUT}{{d0:0,d1:0}}"}
    if context.calibration:
        output[PROBABILITY] = context.calibration.expression
    bindings = "".join(f"        input {one}: {one}\n" for one in context.spec.model_inputs)
    return f"""\
    inputs {{
{inputs}    }}
{functions}    onnx-model {name} {{
        file: {context.model_file}
{bindings}        output {vespa_names.ONNX_OUTPUT}: {vespa_names.ONNX_OUTPUT}
    }}
{_functions(output).rstrip()}"""


def _functions(expressions: Mapping[str, str]) -> str:
    """Return functions by their names, indented, each ending with its line."""
    return "".join(
        f"    function {name}() {{\n        expression: {expression}\n    }}\n"
        for name, expression in expressions.items()
    )


def _explicit_functions(spec: TokenSpec, query: str, document: str) -> dict[str, str]:
    shape = f"tensor<float>(d0[1],d1[{spec.length}])"
    gap = spec.separators
    end = f"query_length + {gap} + document_length"
    functions = {
        "query_length": f"reduce(map({query}, f(x)(x > 0)), sum)",
        "document_length": f"reduce(map({document}, f(x)(x > 0)), sum)",
        "input_ids": (
            f"{shape}(if (d1 == 0, {spec.cls_id}, "
            f"if (d1 <= query_length, {query}{{d0:(d1 - 1)}}, "
            f"if (d1 <= query_length + {gap}, {spec.sep_id}, "
            f"if (d1 <= {end}, {document}{{d0:(d1 - query_length - {gap + 1})}}, "
            f"if (d1 == {end} + 1, {spec.sep_id}, {spec.pad_id}))))))"
        ),
        "attention_mask": f"{shape}(if (d1 <= {end} + 1, 1, 0))",
    }
    if spec.segments:
        functions["token_type_ids"] = (
            f"{shape}(if (d1 > query_length + {gap}, if (d1 <= {end} + 1, 1, 0), 0))"
        )
    return functions
