"""The verbs that turn a checkpoint into an application: export, package, verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from ranker.cli.console import emit, note, save_options
from ranker.cli.options import Format, Json
from ranker.cli.plugin import Wanted, change_application, plan_change
from ranker.cli.verify import verify
from ranker.contract.storage import STORAGES
from ranker.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from ranker.artifacts.bundle import Bundle, Checkpoint
    from ranker.contract.encode import Encoder
    from ranker.contract.storage import Storage
    from ranker.export.to_onnx import Pair

__all__ = ["register"]

_INTO: dict[str, Any] = {"rich_help_panel": "With --into, for an existing application"}


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    app.command(epilog="Example: ranker export checkpoint --data data/scifact --out bundle")(export)
    app.command(
        epilog="Example: ranker package bundle --out app · "
        "ranker package bundle --into my-app --schema product --text-fields title,body"
    )(package)
    app.command(epilog="Example: ranker verify app --pairs 200")(verify)


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="Checkpoint of `ranker train`, or an existing cross-encoder: its folder or its "
            "Hugging Face id."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    data: Annotated[
        str | None, typer.Option(help="Judged data whose real pairs are also compared.")
    ] = None,
    format: Format = None,
    opset: Annotated[int, typer.Option(help="ONNX opset; every Vespa since 8.100 loads 17.")] = 17,
    force: Annotated[
        bool, typer.Option("--force", help="Export a model even if it is not better than BM25.")
    ] = False,
    query_slots: Annotated[
        int | None,
        typer.Option(help="Positions of a query, for a third-party cross-encoder; 32 by default."),
    ] = None,
    document_slots: Annotated[
        int | None,
        typer.Option(
            help="Positions of a document, for a third-party cross-encoder; 96 by default."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint, or an existing cross-encoder, into a checked ONNX bundle.

    The bundle is written only if its logits equal torch's within 1e-4, on synthetic pairs of every
    length and on the pairs of --data. A model that cross-validation did not find better than BM25
    is rejected without --force.

    Any sequence classification model of transformers or sentence-transformers with one label is
    accepted, such as cross-encoder/ms-marco-MiniLM-L6-v2, one with the labels not relevant and
    relevant, and a model of modules that end in one score, such as
    cross-encoder/ettin-reranker-32m-v1. Its raw logit is served, on a document's title and text
    joined by a space. The weight of the blend is 1 then, because it was not
    learned, and cross is recommended; `ranker train` learns the weight.
    """
    from ranker.export.to_onnx import export as run

    slots = {"query_slots": query_slots, "document_slots": document_slots}
    slots = {name: value for name, value in slots.items() if value is not None}
    opened = _open(checkpoint, slots)
    pairs = _real_pairs(opened.encoder(), data, format) if data else []
    note(f"exporting and comparing with torch on {len(pairs) + 64} pairs ...")
    bundle = run(opened, out, pairs=pairs, opset=opset, force=force)
    options = {"checkpoint": checkpoint, "out": out, "opset": opset, "data": data, "force": force}
    save_options("export", options | slots, out)
    _print_exported(bundle, as_json=as_json)


def _print_exported(bundle: "Bundle", *, as_json: bool) -> None:
    """Print what the bundle is, and how closely its logits match torch's."""
    from ranker.files import read_json

    check = read_json(bundle.path / "parity.json", what="bundle")
    worst = max(check["largest_difference"].values())
    size = bundle.model.stat().st_size / 1e6
    emit(
        {
            "bundle": str(bundle.path),
            "fingerprint": bundle.spec.fingerprint,
            "parity": check,
            "verdict": bundle.verdict,
            "forced": bundle.forced,
            "origin": bundle.origin,
        },
        as_json=as_json,
        text=f"equal to torch within {worst:.1e} on {check['pairs']} pairs; "
        f"{size:.1f} MB, opset {check['opset']}, IR {check['ir_version']}, "
        f"contract {bundle.spec.fingerprint}\nbundle: {bundle.path}",
    )


def package(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="Bundle of `ranker export`; without one, the default text is written."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the application package; app by default.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the application, or with --into the name of the model; ranker by default."
        ),
    ] = None,
    storage: Annotated[
        str,
        typer.Option(
            click_type=click.Choice(list(STORAGES)),
            help="How Vespa stores token ids: int8 takes half the memory of float and holds "
            "vocabularies of up to 65,536 ids.",
        ),
    ] = "float",
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the folder differs.")
    ] = False,
    into: Annotated[
        Path | None,
        typer.Option(help="Add the model to this application package instead.", **_INTO),
    ] = None,
    schema: Annotated[
        str | None,
        typer.Option(help="With --into: schema whose documents the model ranks.", **_INTO),
    ] = None,
    text_fields: Annotated[
        str | None,
        typer.Option(
            help="With --into: text fields of that schema, separated by commas, the title first: "
            "title,body.",
            **_INTO,
        ),
    ] = None,
    inherits: Annotated[
        str | None,
        typer.Option(
            help="With --into: rank profile to keep as the first phase; by default it is bm25 of "
            "the text fields.",
            **_INTO,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            help="With --into: namespace of document ids; by default the schema's name.", **_INTO
        ),
    ] = None,
    remove: Annotated[
        str | None, typer.Option(help="With --into: remove the model of this name again.", **_INTO)
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="With --into: write nothing; show the changes as a diff.", **_INTO
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the Vespa application package of a bundle, or add the model to an existing one.

    With --into APP --schema NAME --text-fields FIELDS, the model and its rank profiles are added
    as new files and two fields are added to the schema; all other bytes stay the same. Running
    the command again changes nothing, another --name adds a second model, --remove NAME removes
    one again. `ranker feed` and `query` then work with --app APP; if the application holds
    several models, name one as APP/ext/ranker/NAME.json.
    """
    wanted = Wanted(
        app=into,
        schema=schema,
        text_fields=text_fields,
        inherits=inherits,
        namespace=namespace,
        remove=remove,
    )
    name_or_default, form = name or "ranker", STORAGES[storage]
    if wanted.check(bundle=bundle, out=out, name=name, dry_run=dry_run):
        plan = plan_change(wanted, bundle, name_or_default, storage=form)
        change_application(plan, wanted, dry_run=dry_run, check=check, as_json=as_json)
    elif check:
        _check_package(bundle, out or Path("app"), name_or_default, form, as_json=as_json)
    else:
        _write_package(bundle, out or Path("app"), name_or_default, form, as_json=as_json)


def _check_package(
    bundle: Path | None, out: Path, name: str, storage: "Storage", *, as_json: bool
) -> None:
    from ranker.artifacts.bundle import Bundle
    from ranker.package import application as packages

    if bundle is None:
        differences = packages.differences(out, packages.default_texts(name, storage=storage))
    else:
        opened = Bundle.open(bundle)
        differences = packages.differences_from(opened, out, application=name, storage=storage)
    if differences:
        raise ArtifactError("; ".join(differences) + "; write it again with `ranker package`")
    emit({"checked": str(out)}, as_json=as_json, text=f"{out} is current")


def _write_package(
    bundle: Path | None, out: Path, name: str, storage: "Storage", *, as_json: bool
) -> None:
    from ranker.artifacts.bundle import Bundle
    from ranker.package import application as packages

    if bundle is None:
        packages.write_default(out, storage=storage)
        emit({"application": str(out)}, as_json=as_json, text=f"default application: {out}")
        return
    manifest = packages.write(Bundle.open(bundle), out, application=name, storage=storage).manifest
    options = {"bundle": bundle, "out": out, "name": name, "storage": storage.name}
    save_options("package", options, out)
    profiles = ", ".join(profile.name for profile in manifest.profiles)
    emit(
        {"application": str(out), "manifest": manifest.to_dict()},
        as_json=as_json,
        text=f"rank profiles: {profiles} (recommended: {manifest.recommended_profile})\n"
        f"token ids: {manifest.token_type}, {manifest.token_type.attribute_bytes} bytes of memory "
        f"per document\napplication package: {out}",
    )


def _open(source: Path, slots: dict[str, Any]) -> "Checkpoint":
    """Open a checkpoint, or an existing cross-encoder as one."""
    from ranker.artifacts.bundle import Checkpoint
    from ranker.model.interchange import is_cross_encoder, open_cross_encoder

    if is_cross_encoder(source):
        opened = open_cross_encoder(source, **slots)
        note(_what_is_served(opened))
        return opened
    opened = Checkpoint.open(source)
    for name, value in slots.items():
        if value != getattr(opened.spec, name):
            raise UsageError(
                f"--{name.replace('_', '-')} {value}: {source} was trained with "
                f"{getattr(opened.spec, name)}, which is fixed; train it again to change it"
            )
    return opened


def _what_is_served(opened: "Checkpoint") -> str:
    """Say how the served scores differ from those that the cross-encoder is known for."""
    origin, fields = opened.training["origin"], " + ".join(opened.spec.text_fields)
    logit = "the raw logit"
    if labels := origin.get("labels"):
        logit = f"the logit of its label {labels[1]} minus that of {labels[0]}, for the pair"
    said = f"{origin['name']}: {logit} of a query and a document's {fields} is served"
    activation = origin["activation"].rsplit(".", 1)[-1]
    if activation == "Identity":
        return said
    return f"{said}; sentence-transformers applies {activation}: other numbers, the same order"


def _real_pairs(encoder: "Encoder", data: str, format: str | None, most: int = 200) -> "list[Pair]":
    """Return judged pairs of a collection as token ids, spread over its queries."""
    from ranker.dataset import load

    dataset = load(data, format=format)
    judged = [(query_id, doc_id) for query_id, row in dataset.qrels.items() for doc_id in row]
    judged = judged[:: max(1, len(judged) // most)][:most]
    documents = encoder.documents_ids([dataset.documents[doc_id] for _, doc_id in judged])
    queries = encoder.queries_ids([dataset.queries[query_id].text for query_id, _ in judged])
    return list(zip(queries, documents, strict=True))
