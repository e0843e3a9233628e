"""The application package: a bundle as a Vespa application, on disk and as text.

The schema, the query profile and its type come from pyvespa.  Rank profiles are files of their
own (`schemas/doc/*.profile`), which pyvespa cannot write, as are cluster ids in services.xml;
those are text here.  A .profile file must begin with the word `rank-profile`: Vespa refuses a
comment before it.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker import __version__, contract
from ranker.bundle import Bundle, check_hashes, seal
from ranker.encode import Encoder
from ranker.errors import ArtifactError, require
from ranker.files import new_folder, read_json, sha256, write_json, write_text
from ranker.manifest import Manifest, Phase, Profile, default_profiles
from ranker.spec import TokenSpec

__all__ = [
    "DEFAULT_SPEC",
    "Manifest",
    "Package",
    "Phase",
    "Profile",
    "differences",
    "render",
    "write",
]

MODEL_FILE = f"files/{contract.MODEL}.onnx"
"""In files/, not models/: Vespa imports everything in models/ a second time."""

DEFAULT_SPEC = TokenSpec(
    cls_id=101,
    sep_id=102,
    pad_id=0,
    segments=True,
    vocabulary_size=30522,
    max_positions=512,
    tokenizer_sha256="0" * 64,
)
"""The contract of the committed default application, which has no model: BERT, 32 + 96."""


@dataclass(frozen=True)
class Package:
    """An application package folder, read and checked."""

    path: Path
    manifest: Manifest
    tokenizer_json: str

    MARKER = "manifest.json"

    @classmethod
    def open(cls, path: Path, *, model: bool = True) -> "Package":
        """Read and check an application package.

        Args:
            path: the folder.
            model: whether to check the ONNX file too; a client has no use for it.

        Raises:
            ArtifactError: the folder is no package of ranker, or a file was changed.
        """
        values = read_json(path / cls.MARKER, what="application package of `ranker package`")
        skip = () if model else (MODEL_FILE,)
        check_hashes(path, what="application package", make="ranker package", skip=skip)
        manifest = Manifest.from_dict(values)
        tokenizer = path / "files" / "tokenizer.json"
        return cls(path, manifest, tokenizer.read_text(encoding="utf-8"))

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_FILE

    @property
    def spec(self) -> TokenSpec:
        """The token contract."""
        return self.manifest.spec

    def encoder(self) -> Encoder:
        """The encoder of this package's contract."""
        return Encoder(self.spec, self.tokenizer_json)


def render(spec: TokenSpec, *, blend_weight: float, application: str = "ranker") -> dict[str, str]:
    """The application as text: path in the package to content."""
    profiles = {profile.name: profile for profile in default_profiles(blend_weight)}
    folder = f"schemas/{contract.SCHEMA}"
    pyvespa = _pyvespa_package(spec, application)
    return {
        "services.xml": _services(),
        f"schemas/{contract.SCHEMA}.sd": _tidy(pyvespa.schema.schema_to_text),
        f"{folder}/{contract.BM25}.profile": _bm25_profile(),
        f"{folder}/{contract.CROSS}.profile": _cross_profile(spec),
        f"{folder}/{contract.CROSS_GLOBAL}.profile": _cross_global_profile(spec),
        f"{folder}/{contract.BLEND}.profile": _blend_profile(profiles[contract.BLEND]),
        "search/query-profiles/default.xml": _tidy(pyvespa.query_profile_to_text),
        "search/query-profiles/types/root.xml": _tidy(pyvespa.query_profile_type_to_text),
    }


def write(bundle: Bundle, out: Path, *, application: str = "ranker") -> Package:
    """Write the application package of a bundle.

    Raises:
        ArtifactError: `out` holds something else.
        MissingExtra: pyvespa is not installed.
    """
    with new_folder(out, replace_marker=Package.MARKER) as folder:
        texts = render(bundle.spec, blend_weight=bundle.blend_weight, application=application)
        _write_texts(texts, folder)
        (folder / "files").mkdir()
        _link_or_copy(bundle.model, folder / MODEL_FILE)
        write_text(folder / "files" / "tokenizer.json", bundle.tokenizer_json)
        write_json(folder / Package.MARKER, _manifest(bundle, application).to_dict())
        seal(folder)
    return Package.open(out)


def write_default(out: Path) -> None:
    """Write the default application as text, without a model: the committed `vespa_app/`."""
    _write_texts(render(DEFAULT_SPEC, blend_weight=1.0), out)


def differences(folder: Path, texts: dict[str, str]) -> list[str]:
    """Files of `folder` that are missing or differ from `texts`, one line each."""
    found = []
    for name, text in texts.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path} is missing")
        elif path.read_text(encoding="utf-8") != text:
            found.append(f"{path} differs from what the code writes")
    return found


def _manifest(bundle: Bundle, application: str) -> Manifest:
    return Manifest(
        application=application,
        namespace=contract.NAMESPACE,
        schema=contract.SCHEMA,
        spec=bundle.spec,
        profiles=default_profiles(bundle.blend_weight),
        recommended_profile=bundle.recommended_profile,
        timeout_s=contract.TIMEOUT_S,
        model_sha256=sha256(bundle.model),
        ranker_version=__version__,
    )


def _write_texts(texts: dict[str, str], folder: Path) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows one: a model of 500 MB need not lie there twice."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _pyvespa_package(spec: TokenSpec, application: str) -> Any:
    vespa = require("vespa.package", extra="vespa")
    if not application.isalnum() or not application.islower() or len(application) > 20:
        raise ArtifactError(
            f"expected an application name of at most 20 lower-case letters and digits, "
            f"got {application!r}"
        )
    return vespa.ApplicationPackage(
        name=application,
        schema=[_schema(vespa, spec)],
        query_profile=vespa.QueryProfile(
            fields=[vespa.QueryField(name="timeout", value=f"{contract.TIMEOUT_S:g}")]
        ),
        query_profile_type=vespa.QueryProfileType(
            # Only the tensor: a double declared here and in a profile makes every query fail
            # in Vespa ("Could not set 'ranking.features.query(token_spec)' ... is null").
            fields=[
                vespa.QueryTypeField(name=f"ranking.features.query({name})", type=kind)
                for name, kind in _inputs(spec).items()
                if kind.startswith("tensor")
            ]
        ),
    )


def _schema(vespa: Any, spec: TokenSpec) -> Any:
    tokens = f"tensor<float>(d0[{spec.document_tokens}])"
    joined = f'(input {contract.TITLE} || "") . " " . (input {contract.TEXT} || "") | index'
    bm25 = "enable-bm25"
    fields = [
        vespa.Field(contract.ID, "string", indexing=["attribute", "summary"]),
        vespa.Field(contract.TITLE, "string", indexing=["index", "summary"], index=bm25),
        vespa.Field(contract.TEXT, "string", indexing=["summary"]),
        vespa.Field(contract.DOC_TOKEN_IDS, tokens, indexing=["attribute"], attribute=["paged"]),
        vespa.Field(contract.TOKEN_SPEC, "long", indexing=["attribute", "summary"]),
        vespa.Field(
            contract.CONTENTS, "string", indexing=joined, index=bm25, is_document_field=False
        ),
    ]
    ids = vespa.DocumentSummary(
        contract.IDS_SUMMARY,
        summary_fields=[vespa.Summary(contract.ID)],
        omit_summary_features=True,
    )
    return vespa.Schema(
        contract.SCHEMA,
        document=vespa.Document(fields=fields),
        fieldsets=[vespa.FieldSet("default", [contract.CONTENTS])],
        document_summaries=[ids],
    )


def _inputs(spec: TokenSpec) -> dict[str, str]:
    return {
        contract.QUERY_TOKEN_IDS: f"tensor<float>(d0[{spec.query_tokens}])",
        contract.QUERY_TOKEN_SPEC: "double",
    }


def _services() -> str:
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<services version="1.0">
    <container id="default" version="1.0">
        <search/>
        <document-api/>
        <document-processing/>
    </container>
    <content id="content" version="1.0">
        <redundancy>1</redundancy>
        <documents>
            <document type="{contract.SCHEMA}" mode="index"/>
        </documents>
        <nodes>
            <node distribution-key="0" hostalias="node1"/>
        </nodes>
    </content>
</services>
"""


def _bm25_profile() -> str:
    return f"""\
rank-profile {contract.BM25} {{
    # First phase of every profile.
    first-phase {{
        expression: bm25({contract.CONTENTS})
    }}
    match-features: bm25({contract.CONTENTS}) bm25({contract.TITLE})
}}
"""


def _cross_profile(spec: TokenSpec) -> str:
    return f"""\
rank-profile {contract.CROSS} inherits {contract.BM25} {{
    # The cross-encoder on the content nodes, over the best documents of the first phase.
{_model(spec, contract.MODEL)}
    second-phase {{
        rerank-count: {contract.RERANK_COUNT}
        expression: logit
    }}
{_match_features()}
    # Computed only for the hits of a page, and not for the summary class `ids`.
    summary-features: logit
}}
"""


def _cross_global_profile(spec: TokenSpec) -> str:
    return f"""\
rank-profile {contract.CROSS_GLOBAL} inherits {contract.BM25} {{
    # The cross-encoder in the container, over the best documents of all nodes; a GPU is possible.
{_model(spec, contract.MODEL + "_global")}
    global-phase {{
        rerank-count: {contract.RERANK_COUNT}
        expression: logit
    }}
{_match_features()}
}}
"""


def _blend_profile(profile: Profile) -> str:
    return f"""\
rank-profile {contract.BLEND} inherits {contract.CROSS} {{
    # BM25 and cross-encoder together; the weight was learned on training queries.
    second-phase {{
        rerank-count: {profile.rerank_count}
        expression: bm25({contract.CONTENTS}) + {profile.logit_weight:g} * logit
    }}
}}
"""


def _match_features() -> str:
    return (
        f"    match-features: bm25({contract.CONTENTS}) bm25({contract.TITLE}) "
        f"attribute({contract.TOKEN_SPEC})"
    )


def _model(spec: TokenSpec, model: str) -> str:
    """Inputs, token functions, onnx-model and the function `logit`, indented for a profile."""
    names = contract.ONNX_INPUTS if spec.segments else contract.ONNX_INPUTS[:2]
    inputs = "".join(f"        query({name}) {kind}\n" for name, kind in _inputs(spec).items())
    functions = "".join(
        f"    function {name}() {{\n        expression: {expression}\n    }}\n"
        for name, expression in _token_functions(spec).items()
    )
    bindings = "".join(f"        input {name}: {name}\n" for name in names)
    return f"""\
    inputs {{
{inputs}    }}
{functions}    onnx-model {model} {{
        file: {MODEL_FILE}
{bindings}        output {contract.ONNX_OUTPUT}: {contract.ONNX_OUTPUT}
    }}
    function logit() {{
        expression: onnx({model}).{contract.ONNX_OUTPUT}{{d0:0,d1:0}}
    }}"""


def _token_functions(spec: TokenSpec) -> dict[str, str]:
    """Functions that put the pair together, one for each input of the model.

    Vespa's own token functions know BERT's ids only (101, 102, padding 0, one separator); for
    every other family the same tensors are written out (checked with Vespa's evaluator).
    """
    if (spec.cls_id, spec.sep_id, spec.pad_id, spec.separators) == (101, 102, 0, 1):
        texts = f"query({contract.QUERY_TOKEN_IDS}), attribute({contract.DOC_TOKEN_IDS})"
        calls = ("tokenInputIds", "tokenAttentionMask", "tokenTypeIds")
        names = contract.ONNX_INPUTS if spec.segments else contract.ONNX_INPUTS[:2]
        return {
            name: f"{call}({spec.length}, {texts})"
            for name, call in zip(names, calls, strict=False)
        }
    return _explicit_functions(spec)


def _explicit_functions(spec: TokenSpec) -> dict[str, str]:
    query, document = f"query({contract.QUERY_TOKEN_IDS})", f"attribute({contract.DOC_TOKEN_IDS})"
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


def _tidy(text: str) -> str:
    """Text without blank ends of lines, with one line end at the end."""
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
