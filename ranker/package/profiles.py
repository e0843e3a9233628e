"""Rank profiles as text, each a file of its own: `schemas/SCHEMA/NAME.profile`.

pyvespa cannot write such files.  One must begin with the word `rank-profile`: Vespa refuses a
comment before it.
"""

from dataclasses import dataclass

from ranker.contract import vespa_names
from ranker.contract.spec import TokenSpec
from ranker.contract.storage import FLOAT, Storage, TensorType

__all__ = ["Layout", "bm25_profile", "blend_profile", "cross_global_profile", "cross_profile"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What the rank profiles of one model read.

    Attributes:
        spec: the token contract.
        storage: the form of a document's token ids.
        model: name of the onnx-model; `cross_global` has one of its own, `MODEL_global`, because
            the names must be unique in a schema.
        model_file: its file in the application package.
        match_fields: fields whose bm25 is summed.
        shown_fields: fields whose bm25 is a match feature.
        token_field: field with a document's token ids.
        fingerprint_field: field with the fingerprint under which they were made.
        show_logit: whether the hits of a page carry the logit; it is computed again for them.
    """

    spec: TokenSpec
    storage: Storage
    model: str
    model_file: str
    match_fields: tuple[str, ...]
    shown_fields: tuple[str, ...]
    token_field: str
    fingerprint_field: str
    show_logit: bool

    @property
    def bm25(self) -> str:
        """The first phase."""
        return " + ".join(f"bm25({field})" for field in self.match_fields)

    @property
    def token_type(self) -> TensorType:
        """The type of the field with a document's token ids."""
        return self.storage.tensor_type(self.spec.document_tokens)

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
        query, attribute = f"query({vespa_names.QUERY_TOKEN_IDS})", f"attribute({self.token_field})"
        document, unpacked = attribute, self.storage.expression(attribute)
        functions = {}
        if unpacked != attribute:
            # The token functions take a name, not an expression.
            document = "document_ids"
            functions[document] = unpacked
        if (spec.cls_id, spec.sep_id, spec.pad_id, spec.separators) != (101, 102, 0, 1):
            return functions | _explicit_functions(spec, query, document)
        calls = ("tokenInputIds", "tokenAttentionMask", "tokenTypeIds")
        for name, call in zip(_model_inputs(spec), calls, strict=False):
            functions[name] = f"{call}({spec.length}, {query}, {document})"
        return functions


def bm25_profile(layout: Layout, name: str) -> str:
    """The first phase alone."""
    return f"""\
rank-profile {name} {{
    # First phase of every profile.
    first-phase {{
        expression: {layout.bm25}
    }}
{_match_features(layout, tokens=False)}
}}
"""


def cross_profile(layout: Layout, name: str, *, inherits: str) -> str:
    """The cross-encoder in the second phase."""
    logit = """
    # Computed only for the hits of a page, and not for the summary class `ids`.
    summary-features: logit"""
    return f"""\
rank-profile {name} inherits {inherits} {{
    # The cross-encoder on the content nodes, over the best documents of the first phase.
{_model(layout, layout.model)}
    second-phase {{
        rerank-count: {vespa_names.RERANK_COUNT}
        expression: logit
    }}
{_match_features(layout, tokens=True)}{logit if layout.show_logit else ""}
}}
"""


def cross_global_profile(layout: Layout, name: str, *, inherits: str) -> str:
    """The cross-encoder in the global phase."""
    return f"""\
rank-profile {name} inherits {inherits} {{
    # The cross-encoder in the container, over the best documents of all nodes; a GPU is possible.
{_model(layout, layout.model + "_global")}
    global-phase {{
        rerank-count: {vespa_names.RERANK_COUNT}
        expression: logit
    }}
{_match_features(layout, tokens=True)}
}}
"""


def blend_profile(
    layout: Layout, name: str, *, inherits: str, weight: float, rerank_count: int
) -> str:
    """BM25 and `weight` times the logit in the second phase; inherits a profile with the model."""
    return f"""\
rank-profile {name} inherits {inherits} {{
    # BM25 and cross-encoder together; the weight was learned on training queries.
    second-phase {{
        rerank-count: {rerank_count}
        expression: {layout.bm25} + {weight:g} * logit
    }}
}}
"""


def _match_features(layout: Layout, *, tokens: bool) -> str:
    features = [f"bm25({field})" for field in layout.shown_fields]
    if tokens:
        features.append(f"attribute({layout.fingerprint_field})")
    return f"    match-features: {' '.join(features)}"


def _model(layout: Layout, model: str) -> str:
    """Inputs, token functions, onnx-model and the function `logit`, indented for a profile."""
    inputs = "".join(f"        query({name}) {kind}\n" for name, kind in layout.inputs.items())
    functions = "".join(
        f"    function {name}() {{\n        expression: {expression}\n    }}\n"
        for name, expression in layout.functions.items()
    )
    bindings = "".join(f"        input {name}: {name}\n" for name in _model_inputs(layout.spec))
    return f"""\
    inputs {{
{inputs}    }}
{functions}    onnx-model {model} {{
        file: {layout.model_file}
{bindings}        output {vespa_names.ONNX_OUTPUT}: {vespa_names.ONNX_OUTPUT}
    }}
    function logit() {{
        expression: onnx({model}).{vespa_names.ONNX_OUTPUT}{{d0:0,d1:0}}
    }}"""


def _model_inputs(spec: TokenSpec) -> tuple[str, ...]:
    return vespa_names.ONNX_INPUTS if spec.segments else vespa_names.ONNX_INPUTS[:2]


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
