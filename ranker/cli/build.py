"""Verbs that make artifacts of a checkpoint: export, package, verify."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranker.cli.console import emit, note, save_options
from ranker.cli.options import Format, Json
from ranker.cli.plugin import Wanted, change_application
from ranker.cli.verify import verify
from ranker.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from ranker.artifacts.bundle import Bundle

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    app.command(epilog="Example: ranker export checkpoint --data data/scifact --out bundle")(export)
    app.command(
        epilog="Example: ranker package bundle --out app · "
        "ranker package bundle --into my-app --schema product --text title,body"
    )(package)
    app.command(epilog="Example: ranker verify app --pairs 200")(verify)


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="Checkpoint of `ranker train`, or any cross-encoder: folder or Hugging Face id."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    data: Annotated[
        str | None, typer.Option(help="Judged data: check on its real pairs too.")
    ] = None,
    format: Format = None,
    opset: Annotated[int, typer.Option(help="ONNX opset; 17 loads everywhere.")] = 17,
    force: Annotated[
        bool, typer.Option("--force", help="Export a model that is not better than BM25, too.")
    ] = False,
    query_slots: Annotated[
        int | None, typer.Option(help="Of a cross-encoder: positions of a query; 32 by default.")
    ] = None,
    document_slots: Annotated[
        int | None, typer.Option(help="Of a cross-encoder: positions of a document; 96 by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint, or a cross-encoder that others trained, into a checked ONNX bundle.

    The bundle is written only if its logits equal torch's within 1e-4, on made-up pairs of every
    length and on the pairs of --data. A model that cross-validation did not find better than BM25
    is refused without --force.

    Of transformers and sentence-transformers it takes every sequence classification with one
    label, such as cross-encoder/ms-marco-MiniLM-L6-v2. What is served is its raw logit, on a
    document's title and text joined by a blank. Nobody learned a weight for the blend then, so
    that it is 1 and cross is recommended; `ranker train` learns it.
    """
    from ranker.export.to_onnx import export as run

    slots = {"query_slots": query_slots, "document_slots": document_slots}
    slots = {name: value for name, value in slots.items() if value is not None}
    opened = _opened(checkpoint, slots)
    pairs = _real_pairs(opened.encoder(), data, format) if data else []
    note(f"exporting and comparing with torch on {len(pairs) + 64} pairs ...")
    bundle = run(opened, out, pairs=pairs, opset=opset, force=force)
    options = {"checkpoint": checkpoint, "out": out, "opset": opset, "data": data, "force": force}
    save_options("export", options | slots, out)
    _tell_exported(bundle, as_json=as_json)


def _tell_exported(bundle: "Bundle", *, as_json: bool) -> None:
    """Say what the bundle is, and how nearly its logits equal torch's."""
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
        typer.Argument(help="Bundle of `ranker export`; without one, the default text only."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the application package; app if absent.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the application; with --into, of the model; ranker if absent."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if the folder differs.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(help="Add the model to this application package instead.")
    ] = None,
    schema: Annotated[
        str | None, typer.Option(help="--into: the schema whose documents it ranks.")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(help="--into: its text fields, by commas; the title's first: title,body."),
    ] = None,
    inherits: Annotated[
        str | None,
        typer.Option(help="--into: a rank profile whose first phase stays; else bm25 of --text."),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(help="--into: namespace of document ids; the schema's name by default."),
    ] = None,
    remove: Annotated[
        str | None, typer.Option(help="--into: take the model of this name out again.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="--into: write nothing, show the change as a diff.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the Vespa application package of a bundle, or add it to one that is there.

    With --into APP --schema NAME --text FIELDS an application gets the model and its rank profiles
    as files of their own and two fields in the schema; all else stays byte for byte. Running it
    again changes nothing, another --name puts a second model beside the first, --remove NAME takes
    one out again. `ranker feed` and `query` then work with --app APP; where it holds several
    models, name one as APP/ext/ranker/NAME.json.
    """
    wanted = Wanted(
        app=into, schema=schema, text=text, inherits=inherits, namespace=namespace, remove=remove
    )
    called = name or "ranker"
    if wanted.check(bundle=bundle, out=out, name=name, dry_run=dry_run):
        change_application(wanted, bundle, called, dry_run=dry_run, check=check, as_json=as_json)
    else:
        _package_whole(bundle, out or Path("app"), called, check=check, as_json=as_json)


def _package_whole(
    bundle: Path | None, out: Path, name: str, *, check: bool, as_json: bool
) -> None:
    """An application that is all ranker's."""
    from ranker.artifacts.bundle import Bundle
    from ranker.package import application as packages

    opened = Bundle.open(bundle) if bundle is not None else None
    if check:
        if opened is None:
            found = packages.differences(out, packages.default_texts(name))
        else:
            found = packages.differences_from(opened, out, application=name)
        if found:
            raise ArtifactError("; ".join(found) + "; write it again with `ranker package`")
        emit({"checked": str(out)}, as_json=as_json, text=f"{out} is current")
        return
    if opened is None:
        packages.write_default(out)
        emit({"application": str(out)}, as_json=as_json, text=f"default application: {out}")
        return
    written = packages.write(opened, out, application=name)
    save_options("package", {"bundle": bundle, "out": out, "name": name}, out)
    profiles = ", ".join(profile.name for profile in written.manifest.profiles)
    emit(
        {"application": str(out), "manifest": written.manifest.to_dict()},
        as_json=as_json,
        text=f"rank profiles: {profiles} (recommended: {written.manifest.recommended_profile})\n"
        f"application package: {out}",
    )


def _opened(source: Path, slots: dict[str, Any]) -> Any:
    """A checkpoint of ours, or one made of a cross-encoder that others trained."""
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
                f"{getattr(opened.spec, name)}, which stay; train it again for others"
            )
    return opened


def _what_is_served(opened: Any) -> str:
    """In which way the scores are not those that people know of this cross-encoder."""
    origin, fields = opened.training["origin"], " + ".join(opened.spec.text_fields)
    said = f"{origin['name']}: served is the raw logit of a query and a document's {fields}"
    activation = origin["activation"].rsplit(".", 1)[-1]
    if activation == "Identity":
        return said
    return f"{said}; sentence-transformers gives its {activation}: other numbers, the same order"


def _real_pairs(encoder: Any, data: str, format: str | None, most: int = 200) -> list[Any]:
    """Judged pairs of a collection as token ids, spread over its queries."""
    from ranker.dataset import load

    dataset = load(data, format=format)
    judged = [(query_id, doc_id) for query_id, row in dataset.qrels.items() for doc_id in row]
    judged = judged[:: max(1, len(judged) // most)][:most]
    documents = encoder.documents_ids([dataset.documents[doc_id] for _, doc_id in judged])
    queries = encoder.queries_ids([dataset.queries[query_id].text for query_id, _ in judged])
    return list(zip(queries, documents, strict=True))
