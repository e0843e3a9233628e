"""Verbs that use an application: deploy, serve, feed, query, evaluate, report."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ranker.cli.console import bar, emit, note, save_options, table
from ranker.cli.options import Data, DataFormat, Format, Json, SkipBad, report_skipped
from ranker.errors import UsageError

if TYPE_CHECKING:
    from ranker.artifacts.manifest import Manifest
    from ranker.client.search import Hit, Result
    from ranker.evaluate import Evaluation

__all__ = ["register"]

CONNECTION, EVALUATION, OUTPUT = "Connection", "Evaluation", "Output"

App = Annotated[
    Path | None,
    typer.Option(
        help="Application package; by default the one that the embedded engine at --url serves.",
        rich_help_panel=CONNECTION,
    ),
]
_URL = "Address of the Vespa container or of the embedded engine, such as http://localhost:8080."
Url = Annotated[str | None, typer.Option(help=_URL, rich_help_panel=CONNECTION)]
FeedFormat = Annotated[
    str | None,
    typer.Option(
        click_type=DataFormat("vespa"),
        help="Format of the data; detected by default.",
        rich_help_panel="Data",
    ),
]
Cert = Annotated[
    Path | None,
    typer.Option(
        help="PEM file with the client certificate, which Vespa Cloud asks for.",
        rich_help_panel=CONNECTION,
    ),
]
Key = Annotated[
    Path | None,
    typer.Option(
        help="PEM file with the private key of the client certificate.",
        rich_help_panel=CONNECTION,
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        help="Longest time that the server may take for a query; the application's own default.",
        rich_help_panel=CONNECTION,
    ),
]


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
    app: Annotated[Path, typer.Argument(help="Application package written by `ranker package`.")],
    target: Annotated[
        str, typer.Option(metavar="TARGET", help="Target: embedded, docker, server or cloud.")
    ],
    port: Annotated[
        int | None,
        typer.Option(help="Port of the embedded engine or of Docker; 8080 by default."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Longest wait until the application answers; 300 by default, for embedded 120.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the documents; created if it does not exist.",
            rich_help_panel="Embedded engine",
        ),
    ] = None,
    config_url: Annotated[
        str | None,
        typer.Option(
            help="Address of the config server; http://localhost:19071 by default.",
            rich_help_panel="Running Vespa",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            help="Address of the container; http://localhost:8080 by default.",
            rich_help_panel="Running Vespa",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the container; by default that of the application.",
            rich_help_panel="Docker",
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            help="Docker image of Vespa; vespaengine/vespa:8 by default.",
            rich_help_panel="Docker",
        ),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(
            help="Name of the tenant.",
            rich_help_panel="Vespa Cloud",
        ),
    ] = None,
    application: Annotated[
        str | None,
        typer.Option(
            help="Name of the application in the tenant.",
            rich_help_panel="Vespa Cloud",
        ),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(
            help="Name of the instance; `default` by default.",
            rich_help_panel="Vespa Cloud",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            help="Region of the dev zone; that of pyvespa by default.",
            rich_help_panel="Vespa Cloud",
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(
            help="PEM file with the API key of the tenant; without it, a browser logs in.",
            rich_help_panel="Vespa Cloud",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Deploy an application to the embedded engine, Docker, a running Vespa or Vespa Cloud."""
    given = {**locals(), "wait_s": timeout}
    from ranker.deploy import deploy as run

    options = {
        name: value
        for name, value in given.items()
        if value is not None and name not in {"app", "target", "timeout", "as_json"}
    }
    deployment = run(app, target, on_progress=note, **options)
    lines = [*deployment.warnings, deployment.message, f"endpoint: {deployment.url}"]
    emit(deployment.to_dict(), as_json=as_json, text="\n".join(lines))


def serve(
    data: Annotated[
        Path, typer.Option(help="Folder of the documents; created if it does not exist.")
    ],
    app: Annotated[
        Path | None,
        typer.Argument(help="Application package; by default the one last deployed to --data."),
    ] = None,
    port: Annotated[
        int, typer.Option(help="Port for documents and queries.", rich_help_panel=CONNECTION)
    ] = 8080,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen at; 0.0.0.0 opens the engine to the network.",
            rich_help_panel=CONNECTION,
        ),
    ] = "127.0.0.1",
    config_port: Annotated[
        int | None,
        typer.Option(
            help="Second port that takes deployments; `vespa deploy` looks for one at 19071.",
            rich_help_panel=CONNECTION,
        ),
    ] = None,
    deploy: Annotated[
        bool,
        typer.Option("--deploy", help="Serve APP even if another package was deployed later."),
    ] = False,
) -> None:
    """Serve an application with the embedded engine until Ctrl-C.

    The engine takes `vespa deploy` and `ranker deploy --target server` while it runs. After a
    restart it serves the package that was deployed last, also when it is given the same APP.
    """
    from ranker.engine import serve as run

    what = app or "the last deployment"
    run(
        app,
        data=data,
        port=port,
        host=host,
        config_port=config_port,
        deploy=deploy,
        on_start=lambda: note(
            f"serving {what} at http://{host}:{port}, data in {data}; press Ctrl-C to stop"
        ),
    )


def feed(
    data: Annotated[
        str,
        typer.Argument(
            help="Documents: judged data, a bare corpus, or lines of `vespa visit`; - reads "
            "standard input."
        ),
    ],
    format: FeedFormat = None,
    skip_bad: SkipBad = False,
    app: App = None,
    url: Url = None,
    connections: Annotated[
        int,
        typer.Option(help="Largest number of requests at a time.", rich_help_panel=CONNECTION),
    ] = 32,
    retry_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Longest time to retry a document that an overloaded server refuses.",
            rich_help_panel=CONNECTION,
        ),
    ] = 120.0,
    cert: Cert = None,
    key: Key = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSONL file to write the operations to, for `vespa feed`; nothing is sent.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tokenize documents and feed them, and account for every one.

    A document of a collection has an id, a title and a text. They go into the text fields that
    `ranker package --text-fields` named, and replace the document of that id. Lines of `vespa
    visit` keep their ids and all their fields, and get token ids; read from standard input, they
    need --format vespa. The command lists the documents that did not arrive and then exits with
    status 1. Feeding again is harmless.
    """
    from ranker.feed import feed as run
    from ranker.feed import read_documents, write_operations

    if (out is None) == (url is None):
        raise UsageError("name an endpoint with --url, or a file with --out")
    if out is not None and out.exists() and out.resolve().is_relative_to(Path(data).resolve()):
        raise UsageError(f"--out {out} is the data that is read; name another file")
    opened = _app(app, url)
    documents = read_documents(data, format=format, skip_bad=skip_bad)
    if out is not None:
        with bar("tokenize", quiet=as_json) as show:
            written = write_operations(_counted(documents, show), opened, out)
        text = f"{written} operations written to {out}"
        emit({"written": written, "file": str(out)}, as_json=as_json, text=text)
        return
    with bar("feed", quiet=as_json) as show:
        account = run(
            documents,
            opened,
            str(url),
            connections=connections,
            retry_s=retry_timeout,
            cert=cert,
            key=key,
            on_progress=lambda done, total, rate: show(done, total, f"{rate:.0f}/s"),
        )
    emit(account.to_dict(), as_json=as_json, text=account.summary())
    for failure in account.failed[:50]:
        note(f"not fed: {failure}")
    account.require_complete()


def query(
    text: Annotated[str, typer.Argument(help="Question to ask.")],
    profile: Annotated[
        str | None, typer.Option(help="Rank profile; the recommended one by default.")
    ] = None,
    hits: Annotated[int, typer.Option(help="Number of hits to show.")] = 10,
    offset: Annotated[int, typer.Option(help="Number of best hits to skip.")] = 0,
    rerank_count: Annotated[
        int | None,
        typer.Option(help="Number of documents to rerank; the profile's own number by default."),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="Show only the hits that are relevant with at least this probability (0 to 1); "
            "needs a calibrated model and a rank profile of the second phase.",
        ),
    ] = None,
    app: App = None,
    url: Url = None,
    timeout: Timeout = None,
    cert: Cert = None,
    key: Key = None,
    print_body: Annotated[
        bool,
        typer.Option(
            "--print",
            help="Print the body of the request instead of sending it.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask one question and show the hits.

    Only the question is tokenized; the documents brought their token ids when they were fed.
    """
    from ranker.client.search import Client, query_body

    options: dict[str, Any] = {
        "profile": profile,
        "hits": hits,
        "offset": offset,
        "timeout_s": timeout,
        "rerank_count": rerank_count,
    }
    if print_body:
        if min_score is not None:
            raise UsageError("--min-score filters hits, and --print asks for none; leave one out")
        emit(query_body(text, _app(app, url), **options), as_json=True, text="")
        return
    if url is None:
        raise UsageError("name an endpoint with --url, or print the request with --print")
    opened = _app(app, url)
    with Client(url, opened, cert=cert, key=key) as client:
        result = client.search(text, **options, min_score=min_score)
    chosen = profile or opened.manifest.recommended_profile
    emit(
        {
            "profile": chosen,
            "total_count": result.total_count,
            "latency_s": result.latency_s,
            "hits": [
                {
                    "doc_id": hit.doc_id,
                    "relevance": hit.relevance,
                    "fields": hit.fields,
                    "match_features": hit.match_features,
                    "probability": hit.probability,
                }
                for hit in result.hits
            ],
        },
        as_json=as_json,
        text=_hits_text(result, opened.manifest, chosen, min_score),
    )


def evaluate(
    data: Data,
    *,
    split: Annotated[
        str | None,
        typer.Option(
            help="Split to evaluate; by default test, if the data has one.",
            rich_help_panel="Data",
        ),
    ] = None,
    format: Format = None,
    skip_bad: SkipBad = False,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            help="Rank profile, may be repeated; by default all but those of the global phase.",
            rich_help_panel=EVALUATION,
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure by its ir_measures name, such as nDCG@10; may be repeated.",
            rich_help_panel=EVALUATION,
        ),
    ] = None,
    hits: Annotated[
        int,
        typer.Option(help="Number of documents for each query.", rich_help_panel=EVALUATION),
    ] = 100,
    app: App = None,
    url: Annotated[str, typer.Option(help=_URL, rich_help_panel=CONNECTION)],
    concurrency: Annotated[
        int,
        typer.Option(
            help="Number of queries at a time; latencies are comparable only with 1.",
            rich_help_panel=CONNECTION,
        ),
    ] = 1,
    timeout: Timeout = None,
    cert: Cert = None,
    key: Key = None,
    out: Annotated[
        Path, typer.Option(help="Folder to write the evaluation to.", rich_help_panel=OUTPUT)
    ],
    as_json: Json = False,
) -> None:
    """Evaluate rank profiles on judged queries.

    Writes TREC runs, latencies, measures with confidence intervals, and paired comparisons.
    """
    given = dict(locals())
    from ranker.client.search import Client
    from ranker.dataset import default_split, load
    from ranker.evaluate import evaluate as run
    from ranker.metrics import measures

    split = split or default_split(data, "test", format=format)
    dataset = load(data, format=format, split=split, skip_bad=skip_bad)
    report_skipped(dataset)
    opened = _app(app, url)
    with Client(url, opened, cert=cert, key=key) as client, bar("evaluate", quiet=as_json) as show:
        evaluation = run(
            dataset,
            client,
            profiles=profile or None,
            hits=hits,
            measures=measure or measures.DEFAULT,
            out=out,
            timeout_s=timeout,
            concurrency=concurrency,
            on_progress=show,
        )
    resolved = {
        "profile": evaluation.profiles,
        "split": split,
        "measure": list(evaluation.measures),
    }
    save_options("evaluate", given | resolved, out)
    figures = {
        name: {measure: evaluation.mean(name, measure) for measure in evaluation.measures}
        for name in evaluation.profiles
    }
    emit(
        {"evaluation": str(out), "figures": figures, "comparisons": evaluation.comparisons},
        as_json=as_json,
        text=f"{_figures_text(evaluation, len(dataset.qrels))}\nevaluation: {out}",
    )


def report(
    folders: Annotated[
        list[Path], typer.Argument(help="Evaluations, checkpoints and bundles, in any order.")
    ],
    out: Annotated[Path, typer.Option(help="HTML file to write.", rich_help_panel=OUTPUT)],
    as_json: Json = False,
) -> None:
    """Summarize evaluations and trainings on one self-contained HTML page."""
    from ranker.report import page

    written = page(folders, out)
    save_options("report", {"folders": folders, "out": out}, out)
    emit({"page": str(written)}, as_json=as_json, text=f"page: {written}")


def _app(app: Path | None, url: str | None) -> Any:
    """Open the application of a folder, or the one that an embedded engine serves."""
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


def _hits_text(
    result: "Result", manifest: "Manifest", profile: str, min_score: float | None
) -> str:
    def bm25(hit: "Hit") -> float:
        return float(
            sum(hit.match_features.get(f"bm25({name})", 0.0) for name in manifest.match_fields)
        )

    calibrated = any(hit.probability is not None for hit in result.hits)
    rows = [
        [
            str(rank),
            f"{hit.relevance:.3f}",
            f"{bm25(hit):.3f}",
            *([_share(hit.probability)] if calibrated else []),
            hit.doc_id,
            _one_line(hit.fields.get(manifest.text_fields[0], ""))[:60],
        ]
        for rank, hit in enumerate(result.hits, start=1)
    ]
    probability = ["probability"] if calibrated else []
    headers = ["rank", "relevance", "bm25", *probability, "document", "title"]
    none = (
        "no hits" if min_score is None else f"no hits with a probability of at least {min_score:g}"
    )
    hits = table(headers, rows) if rows else none
    return (
        f"{hits}\nrank profile {profile}: {result.total_count} matched, "
        f"{1000 * result.latency_s:.0f} ms"
    )


def _share(probability: float | None) -> str:
    return "-" if probability is None else f"{probability:.3f}"


def _one_line(value: object) -> str:
    """Return a field without line ends, and without marks that turn the direction of text."""
    text = "".join(letter for letter in str(value) if unicodedata.category(letter) != "Cf")
    return " ".join(text.split())


def _figures_text(evaluation: "Evaluation", queries: int) -> str:
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
