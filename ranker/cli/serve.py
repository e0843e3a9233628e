"""Verbs that use an application: deploy, serve, feed, query, evaluate, report."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ranker.cli.console import bar, emit, note, save_options, table
from ranker.cli.options import DataFormat, Format, Json, SkipBad, tell_skipped
from ranker.errors import UsageError

__all__ = ["register"]

App = Annotated[
    Path | None,
    typer.Option(help="Application package; an embedded engine at --url hands out its own."),
]
Url = Annotated[str | None, typer.Option(help="Endpoint, as http://localhost:8080.")]
FeedFormat = Annotated[
    str | None,
    typer.Option(click_type=DataFormat("vespa"), help="Format of the data; detected if absent."),
]
Cert = Annotated[Path | None, typer.Option(help="Client certificate (PEM), for Vespa Cloud.")]
Key = Annotated[Path | None, typer.Option(help="Its key (PEM).")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the program."""
    app.command(epilog="Example: ranker deploy app --target server")(deploy)
    app.command(epilog="Example: ranker serve app --data db --port 8080")(serve)
    app.command(epilog="Example: ranker feed corpus.jsonl --app app --url http://localhost:8080")(
        feed
    )
    app.command(epilog='Example: ranker query "run a function later" --url http://localhost:8080')(
        query
    )
    app.command(
        epilog="Example: ranker evaluate data/scifact --app app --url http://localhost:8080 "
        "--profile bm25 --profile blend --out evaluation"
    )(evaluate)
    app.command(epilog="Example: ranker report checkpoint evaluation --out report.html")(report)


def deploy(
    app: Annotated[Path, typer.Argument(help="Application package of `ranker package`.")],
    target: Annotated[str, typer.Option(help="embedded, docker, server or cloud.")],
    data: Annotated[Path | None, typer.Option(help="embedded: folder of the documents.")] = None,
    port: Annotated[int | None, typer.Option(help="embedded, docker: port.")] = None,
    config_url: Annotated[str | None, typer.Option(help="server: the config server.")] = None,
    url: Annotated[str | None, typer.Option(help="server: the container.")] = None,
    name: Annotated[str | None, typer.Option(help="docker: name of the container.")] = None,
    image: Annotated[str | None, typer.Option(help="docker: Vespa's image.")] = None,
    tenant: Annotated[str | None, typer.Option(help="cloud: tenant.")] = None,
    application: Annotated[str | None, typer.Option(help="cloud: application.")] = None,
    instance: Annotated[str | None, typer.Option(help="cloud: instance.")] = None,
    region: Annotated[str | None, typer.Option(help="cloud: region of the dev zone.")] = None,
    key: Annotated[Path | None, typer.Option(help="cloud: the tenant's API key (PEM).")] = None,
    wait_s: Annotated[float | None, typer.Option(help="Longest wait, seconds.")] = None,
    as_json: Json = False,
) -> None:
    """Deploy to the embedded engine, Docker, a running Vespa or Vespa Cloud."""
    given = {k: v for k, v in locals().items() if k not in {"app", "target", "as_json"}}
    from ranker.deploy import deploy as run

    options = {option: value for option, value in given.items() if value is not None}
    deployment = run(app, target, on_progress=note, **options)
    lines = [*deployment.warnings, deployment.message, f"endpoint: {deployment.url}"]
    emit(deployment.to_dict(), as_json=as_json, text="\n".join(lines))


def serve(
    data: Annotated[Path, typer.Option(help="Folder of the documents; made if absent.")],
    app: Annotated[
        Path | None,
        typer.Argument(help="Application package; what was deployed last to --data if absent."),
    ] = None,
    port: Annotated[int, typer.Option(help="TCP port.")] = 8080,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    config_port: Annotated[
        int | None, typer.Option(help="Another port; `vespa deploy` without -t uses 19071.")
    ] = None,
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Serve APP, whatever was deployed after it.")
    ] = False,
) -> None:
    """Serve an application with the embedded engine, until Ctrl-C.

    Takes `vespa deploy` and `ranker deploy --target server` while it runs; what was deployed last
    is served again after a restart, also with the same APP.
    """
    from ranker.engine import serve as run

    told = f"serving {app or 'what is deployed'} at http://{host}:{port}, data in {data}"
    run(
        app,
        data=data,
        port=port,
        host=host,
        config_port=config_port,
        deploy=deploy,
        on_start=lambda: note(f"{told}; Ctrl-C stops"),
    )


def feed(
    data: Annotated[
        str,
        typer.Argument(
            help="Documents: judged data, a bare corpus, or Vespa's own lines with put and fields "
            "(of `vespa visit`); - is standard input."
        ),
    ],
    app: App = None,
    url: Url = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the operations to FILE.jsonl instead.")
    ] = None,
    format: FeedFormat = None,
    skip_bad: SkipBad = False,
    connections: Annotated[int, typer.Option(help="Most requests under way.")] = 32,
    retry_s: Annotated[float, typer.Option(help="How long to retry a document, s.")] = 120.0,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Tokenize documents and feed them; every one is accounted for.

    A document of a collection has an id, a title and a text; they go into the text fields that
    `ranker package --text-fields` named, and replace the document of that id. Vespa's own lines
    keep their ids and all their fields, and get their token ids; --format vespa if they come by -.
    Exits 1, with a list, if a document did not arrive. Feeding again is harmless.
    """
    from ranker.feed import feed as run
    from ranker.feed import read_documents, write_operations

    if (write is None) == (url is None):
        raise UsageError("name an endpoint with --url, or a file with --write")
    opened = _app(app, url)
    documents = read_documents(data, format=format, skip_bad=skip_bad)
    if write is not None:
        with bar("tokenize", quiet=as_json) as show:
            written = write_operations(_counted(documents, show), opened, write)
        emit({"written": written, "file": str(write)}, as_json=as_json, text=f"{written} {write}")
        return
    with bar("feed", quiet=as_json) as show:
        account = run(
            documents,
            opened,
            str(url),
            connections=connections,
            retry_s=retry_s,
            cert=cert,
            key=key,
            on_progress=lambda done, total, rate: show(done, total, f"{rate:.0f}/s"),
        )
    emit(account.to_dict(), as_json=as_json, text=account.summary())
    for failure in account.failed[:50]:
        note(f"not fed: {failure}")
    account.require_complete()


def query(
    text: Annotated[str, typer.Argument(help="The question.")],
    app: App = None,
    url: Url = None,
    profile: Annotated[
        str | None, typer.Option(help="Rank profile; the recommended one if absent.")
    ] = None,
    hits: Annotated[int, typer.Option(help="Hits to show.")] = 10,
    offset: Annotated[int, typer.Option(help="Hits to pass over.")] = 0,
    timeout: Annotated[float | None, typer.Option(help="Seconds the server may take.")] = None,
    rerank_count: Annotated[int | None, typer.Option(help="Documents to rerank.")] = None,
    print_body: Annotated[
        bool, typer.Option("--print", help="Print the request's body instead.")
    ] = False,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Ask one question; only the question is tokenized here."""
    from ranker.client.search import Client, query_body

    options: dict[str, Any] = {
        "profile": profile,
        "hits": hits,
        "offset": offset,
        "timeout_s": timeout,
        "rerank_count": rerank_count,
    }
    opened = _app(app, url)
    if print_body:
        body = query_body(text, opened, **options)
        emit(body, as_json=True, text="")
        return
    if url is None:
        raise UsageError("name an endpoint with --url, or see the request with --print")
    with Client(url, opened, cert=cert, key=key) as client:
        result = client.search(text, **options)
    emit(
        {
            "total_count": result.total_count,
            "latency_s": result.latency_s,
            "hits": [
                {
                    "doc_id": hit.doc_id,
                    "relevance": hit.relevance,
                    "fields": hit.fields,
                    "match_features": hit.match_features,
                }
                for hit in result.hits
            ],
        },
        as_json=as_json,
        text=_hits_text(result, opened.manifest),
    )


def evaluate(
    data: Annotated[str, typer.Argument(help="Judged data.")],
    out: Annotated[Path, typer.Option(help="Folder of the evaluation.")],
    url: Annotated[str, typer.Option(help="Endpoint, as http://localhost:8080.")],
    app: App = None,
    profile: Annotated[
        list[str] | None, typer.Option(help="Rank profile; repeat it. All but global by default.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split to evaluate; test where there is one.")
    ] = None,
    format: Format = None,
    skip_bad: SkipBad = False,
    hits: Annotated[int, typer.Option(help="Documents for each query.")] = 100,
    measure: Annotated[
        list[str] | None, typer.Option(help="Measure as ir_measures spells it; repeat it.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds the server may take.")] = None,
    concurrency: Annotated[int, typer.Option(help="Queries under way at once.")] = 1,
    cert: Cert = None,
    key: Key = None,
    as_json: Json = False,
) -> None:
    """Run rank profiles over judged queries: TREC runs, latencies, measures, comparisons."""
    given = dict(locals())
    from ranker.client.search import Client
    from ranker.dataset import load, split_names
    from ranker.evaluate import evaluate as run
    from ranker.metrics import measures

    if split is None and "test" in split_names(data, format=format):
        split = "test"
    dataset = load(data, format=format, split=split, skip_bad=skip_bad)
    tell_skipped(dataset)
    opened = _app(app, url)
    known = opened.manifest.profiles
    profiles = profile or [one.name for one in known if one.phase != "global"]
    with Client(url, opened, cert=cert, key=key) as client, bar("evaluate", quiet=as_json) as show:
        evaluation = run(
            dataset,
            client,
            profiles=profiles,
            hits=hits,
            measures=measure or measures.DEFAULT,
            out=out,
            timeout_s=timeout,
            concurrency=concurrency,
            on_progress=show,
        )
    resolved = {"profile": profiles, "split": split, "measure": list(evaluation.measures)}
    save_options("evaluate", given | resolved, out)
    figures = {
        name: {measure: evaluation.mean(name, measure) for measure in evaluation.measures}
        for name in profiles
    }
    emit(
        {"evaluation": str(out), "figures": figures, "comparisons": evaluation.comparisons},
        as_json=as_json,
        text=f"{_figures_text(evaluation, len(dataset.qrels))}\nevaluation: {out}",
    )


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Evaluations, checkpoints and bundles, in any mix.")
    ],
    out: Annotated[Path, typer.Option(help="The HTML file.")],
    as_json: Json = False,
) -> None:
    """Put evaluations and trainings on one self-contained page."""
    from ranker.report import page

    written = page(folders, out)
    save_options("report", {"folders": folders, "out": out}, out)
    emit({"page": str(written)}, as_json=as_json, text=f"page: {written}")


def _app(app: Path | None, url: str | None) -> Any:
    """The application of a folder, or the one that an embedded engine serves."""
    from ranker.client.search import App as ClientApp

    if app is not None:
        return ClientApp.open(app)
    if url is None:
        raise UsageError("name the application package with --app")
    return ClientApp.of_engine(url)


def _counted(documents: Iterable[Any], show: Callable[..., None]) -> Iterator[Any]:
    for number, document in enumerate(documents, start=1):
        show(number)
        yield document


def _hits_text(result: Any, manifest: Any) -> str:
    def bm25(hit: Any) -> float:
        found = (hit.match_features.get(f"bm25({name})", 0.0) for name in manifest.match_fields)
        return float(sum(found))

    rows = [
        [
            str(rank),
            f"{hit.relevance:.3f}",
            f"{bm25(hit):.3f}",
            hit.doc_id,
            _one_line(hit.fields.get(manifest.text_fields[0], ""))[:60],
        ]
        for rank, hit in enumerate(result.hits, start=1)
    ]
    shown = table(["rank", "relevance", "bm25", "document", "title"], rows) if rows else "no hits"
    return f"{shown}\n{result.total_count} matched, {1000 * result.latency_s:.0f} ms"


def _one_line(value: Any) -> str:
    """A field without line ends, and without marks that turn the direction of what follows."""
    shown = "".join(letter for letter in str(value) if unicodedata.category(letter) != "Cf")
    return " ".join(shown.split())


def _figures_text(evaluation: Any, queries: int) -> str:
    rows = []
    for profile in evaluation.profiles:
        p50 = evaluation.figures["profiles"][profile]["latency_ms"]["p50"]
        means = [f"{evaluation.mean(profile, name):.4f}" for name in evaluation.measures]
        rows.append([profile, *means, f"{p50:.0f}"])
    lines = [table([f"{queries} queries", *evaluation.measures, "ms (median)"], rows)]
    for row in evaluation.comparisons:
        low, high = row["interval"]
        lines.append(
            f"{row['profile']} - {row['baseline']}: {row['mean_difference']:+.4f} "
            f"{row['measure']}, 95 % interval [{low:+.4f}, {high:+.4f}], "
            f"p = {row['p_holm']:.3f} (Holm)"
        )
    return "\n".join(lines)
