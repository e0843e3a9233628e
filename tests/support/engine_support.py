"""A tiny application package and a running engine, for tests.

    app = make_app(tmp_path / "app")
    with running_engine(app, tmp_path / "data") as url: ...

The tokenizer knows the words of `WORDS`.  The model's logit is the number of equal pairs of query
and document tokens minus a tenth of the number of document tokens, so every score can be computed
by hand.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ranker.artifacts.bundle import Bundle, write_hashes
from ranker.contract import vespa_names
from ranker.contract.encode import Encoder, spec_of_tokenizer
from ranker.contract.spec import TokenSpec
from ranker.files import write_json, write_text
from ranker.package.application import Package, write
from ranker.records import Document

ROOT = Path(__file__).parents[2]
SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "red green blue fox dog cat house tree river stone quick slow lazy brown black white "
    "jumps runs sleeps eats over under the a an of and to in on hello world apple pear plum "
    "one two three four five six seven eight nine ten"
).split()
VOCABULARY = (*SPECIALS, *WORDS)


def tiny_logit(query_ids: Sequence[int], document_ids: Sequence[int]) -> float:
    """Compute the tiny model's logit of a pair by hand."""
    equal = sum(q == d for q in query_ids for d in document_ids)
    return equal - 0.1 * len(document_ids)


def tokenizer_json() -> str:
    """Return a word-level tokenizer with BERT's pair layout."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {word: row for row, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(list(SPECIALS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return str(tokenizer.to_str())


def tiny_spec(**sizes: int) -> TokenSpec:
    """Return the contract of the tiny tokenizer, by default of 32 + 96 slots."""
    return spec_of_tokenizer(
        tokenizer_json(),
        vocabulary_size=len(VOCABULARY),
        max_positions=512,
        segments=True,
        **sizes,
    )


def write_model(path: Path, spec: TokenSpec, *, penalty: float = 0.1) -> None:
    """Write the tiny cross-encoder as ONNX: one-hot rows of both segments, multiplied and summed.

    Args:
        path: where to.
        spec: the contract.
        penalty: what each token of the document costs; another one is another model.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.eye(spec.vocabulary_size, dtype=np.float32)
    table[[spec.cls_id, spec.sep_id, spec.pad_id]] = 0
    constants = {
        "table": table,
        "one": np.array(1.0, dtype=np.float32),
        "penalty_each": np.array(penalty, dtype=np.float32),
        "axis1": np.array([1], dtype=np.int64),
        "axis2": np.array([2], dtype=np.int64),
    }
    step = helper.make_node
    nodes = [
        step("Gather", ["table", "input_ids"], ["hot"]),
        step("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        step("Cast", ["token_type_ids"], ["segment"], to=TensorProto.FLOAT),
        step("Mul", ["mask", "segment"], ["second"]),
        step("Sub", ["mask", "second"], ["first"]),
        step("Unsqueeze", ["first", "axis2"], ["first3"]),
        step("Unsqueeze", ["second", "axis2"], ["second3"]),
        step("Mul", ["hot", "first3"], ["query_hot"]),
        step("Mul", ["hot", "second3"], ["document_hot"]),
        step("ReduceSum", ["query_hot", "axis1"], ["query"], keepdims=0),
        step("ReduceSum", ["document_hot", "axis1"], ["document"], keepdims=0),
        step("Mul", ["query", "document"], ["product"]),
        step("ReduceSum", ["product", "axis1"], ["equal"], keepdims=1),
        step("ReduceSum", ["document", "axis1"], ["length"], keepdims=1),
        step("Mul", ["length", "penalty_each"], ["penalty"]),
        step("Sub", ["equal", "penalty"], ["logits"]),
    ]
    shape = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(n, TensorProto.INT64, shape)
            for n in vespa_names.ONNX_INPUTS
        ],
        [helper.make_tensor_value_info(vespa_names.ONNX_OUTPUT, TensorProto.FLOAT, ["batch", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    helper.set_model_props(
        model,
        {vespa_names.ONNX_FINGERPRINT: spec.fingerprint, vespa_names.ONNX_SPEC: spec.to_json()},
    )
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def make_bundle(
    folder: Path,
    *,
    blend_weight: float = 2.0,
    penalty: float = 0.1,
    calibration: dict[str, float] | None = None,
    **sizes: int,
) -> Bundle:
    """Make a bundle with the tiny model."""
    folder.mkdir(parents=True)
    spec = tiny_spec(**sizes)
    write_model(folder / "model.onnx", spec, penalty=penalty)
    write_text(folder / "tokenizer.json", tokenizer_json())
    write_json(folder / "spec.json", spec.to_dict())
    write_json(folder / "parity.json", {})
    about = {"blend_weight": blend_weight, "recommended_profile": "blend", "training": {}}
    about |= {"calibration": calibration, "uncalibrated": None if calibration else "too few"}
    write_json(folder / "bundle.json", about)
    write_hashes(folder)
    return Bundle.open(folder)


def make_app(folder: Path, **options: Any) -> Path:
    """Make an application package with the tiny model, by the options of `make_bundle`."""
    bundle = make_bundle(folder.with_name(f"{folder.name}-bundle"), **options)
    return write(bundle, folder).path


def put_fields(document: Document, encoder: Encoder) -> dict[str, object]:
    """Return the fields of a document as the feeder sends them."""
    ids = encoder.document_ids(document)
    values = [*ids, *[0] * (encoder.spec.document_tokens - len(ids))]
    return {
        vespa_names.ID: document.doc_id,
        vespa_names.TITLE: document.title,
        vespa_names.TEXT: document.text,
        vespa_names.DOC_TOKEN_IDS: {"values": values},
        vespa_names.TOKEN_FINGERPRINT: encoder.spec.fingerprint_number,
    }


def query_inputs(text: str, encoder: Encoder) -> dict[str, object]:
    """Return the inputs of a query to a token profile, as flat parameters."""
    ids = encoder.query_ids(text)
    values = [*ids, *[0] * (encoder.spec.query_tokens - len(ids))]
    return {
        f"input.query({vespa_names.QUERY_TOKEN_IDS})": json.dumps(values),
        f"input.query({vespa_names.QUERY_TOKEN_FINGERPRINT})": encoder.spec.fingerprint_number,
    }


def encoder_of(app: Path) -> Encoder:
    """Return the encoder of an application package."""
    return Package.open(app, model=False).encoder()


def free_port() -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class EngineProcess:
    """`python -m ranker.engine` as a child process; without a package if `app` is None.

    Attributes:
        url: where it listens.
        process: the child.
        log: file with its stderr.
    """

    def __init__(
        self,
        app: Path | None,
        data: Path,
        *,
        port: int | None = None,
        config_port: int | None = None,
        program: Sequence[str] = ("ranker.engine",),
    ) -> None:
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        data.parent.mkdir(parents=True, exist_ok=True)
        self.log = data.with_name(f"{data.name}-{port}.log")
        command = [sys.executable, "-m", *program]
        command += [] if app is None else [str(app)]
        command += [] if config_port is None else ["--config-port", str(config_port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data", str(data), "--port", str(port)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def wait(self, seconds: float = 30.0) -> None:
        """Wait until it answers; its log is in the error if it does not."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(OSError, urllib.error.URLError):
                with urllib.request.urlopen(f"{self.url}/state/v1/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            time.sleep(0.03)
        raise AssertionError(f"no engine at {self.url}: {self.log.read_text()}")

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Stop it and wait; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the engine did not stop: {self.log.read_text()}") from None


@contextlib.contextmanager
def running_engine(app: Path, data: Path, *, port: int | None = None) -> Iterator[str]:
    """Run an engine during the block and yield its URL."""
    engine = EngineProcess(app, data, port=port)
    try:
        engine.wait()
        yield engine.url
    finally:
        engine.stop()
