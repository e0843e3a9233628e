"""Both forms of stored token ids in Vespa's own validator, evaluator and feed reader."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from checkpoints import checkpoint_of
from engine_support import make_bundle
from families import make_family
from plugin_support import application, bert_bundle
from vespa_scores import check_scores

from ranker.artifacts.bundle import Bundle
from ranker.client.search import App
from ranker.contract import vespa_names
from ranker.contract.encode import pair_inputs
from ranker.contract.storage import INT8, STORAGES, Storage
from ranker.export.to_onnx import export
from ranker.package.application import Package, write
from ranker.package.into import install
from ranker.verify import VespaProcess, working_copy
from ranker.verify.parity.check import check_parity
from ranker.verify.parity.pairs import nasty_pairs, special_tokens
from ranker.verify.traffic import check_feed
from ranker.verify.validity import check_package
from ranker.verify.vespa.process import OpenPackage

pytestmark = pytest.mark.java

VERSION = "8.700.24"
BOTH = pytest.mark.parametrize("storage", STORAGES.values(), ids=STORAGES)


@pytest.fixture(scope="module", params=["bert", "tiny", "roberta"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """BERT's ids have token functions in Vespa; RoBERTa has a double separator."""
    folder = tmp_path_factory.mktemp("bundles")
    if request.param == "bert":
        return bert_bundle(folder / "bundle")
    if request.param == "tiny":
        return make_bundle(folder / "bundle")
    checkpoint = checkpoint_of(make_family("roberta", folder / "model"), folder / "checkpoint")
    return export(checkpoint, folder / "bundle")


@BOTH
def test_a_package_is_valid_and_scores_as_python_does(
    storage: Storage, bundle: Bundle, vespa_process: VespaProcess, tmp_path: Path
) -> None:
    package = write(bundle, tmp_path / "app", storage=storage)
    schema = (tmp_path / "app/schemas/doc.sd").read_text()
    assert f"type {storage.tensor_type(bundle.spec.document_tokens)} {{" in schema
    pairs = nasty_pairs(40, specials=special_tokens(package.tokenizer_json))
    with working_copy(package.path) as copy:
        opened = OpenPackage(vespa_process, copy)
        assert check_package([package], vespa=opened, version=VERSION).problems == ()
        result = check_parity(package, pairs, vespa=opened)
        documents = [pair.document for pair in pairs]
        fed = check_feed(App(package.manifest, package.encoder()), documents, vespa=opened)
    assert result.problems == (), result.difference
    assert result.figures["scores_vespa"] == 120 and result.figures["scores_engine"] > 60
    assert result.figures["id_mismatches"] == 0
    assert fed.problems == () and fed.figures["read_by_vespa"] == 40


@BOTH
def test_a_model_in_an_application_scores_as_python_does(
    storage: Storage, bundle: Bundle, vespa_process: VespaProcess, tmp_path: Path
) -> None:
    app = application("shop", tmp_path)
    fields = ["title", "description"]
    install(bundle, app, schema="product", text_fields=fields, storage=storage).apply()
    with working_copy(app) as copy:
        assert vespa_process.validate(copy).errors == ()
        assert check_scores(vespa_process, copy, Package.open(app), nasty_pairs(20)) == 3


def test_both_forms_of_one_model_in_one_application(
    bundle: Bundle, vespa_process: VespaProcess, tmp_path: Path
) -> None:
    app = application("shop", tmp_path)
    for name, storage in STORAGES.items():
        fields = ["title", "description"]
        install(
            bundle, app, schema="product", text_fields=fields, name=name, storage=storage
        ).apply()
    first, second = (package.manifest for package in Package.every(app))
    assert first.spec == second.spec and first.token_field != second.token_field
    with working_copy(app) as copy:
        assert vespa_process.validate(copy).errors == ()
        for package in Package.every(app):
            assert check_scores(vespa_process, copy, package, nasty_pairs(5)) == 3


@pytest.mark.parametrize("family", ["bert", "tiny"])
def test_int8_planes_hold_every_id_up_to_65535(
    family: str, vespa_process: VespaProcess, tmp_path: Path
) -> None:
    small = (bert_bundle if family == "bert" else make_bundle)(tmp_path / "bundle")
    spec = dataclasses.replace(small.spec, vocabulary_size=65_536)
    package = write(dataclasses.replace(small, spec=spec), tmp_path / "app", storage=INT8)
    edges = [1, 127, 128, 255, 256, 32_639, 32_640, 32_767, 32_768, 65_408, 65_535]
    rows = [edges, [], *np.arange(1, 65_536)[: 95 * 689].reshape(-1, 95)[::23].tolist()]
    bindings = [
        {
            f"query({vespa_names.QUERY_TOKEN_IDS})": [5] + [0] * 29,
            f"attribute({vespa_names.DOC_TOKEN_IDS})": INT8.pack(ids, 95),
        }
        for ids in rows
    ]
    with working_copy(package.path) as copy:
        answers = vespa_process.evaluate(
            copy, profile="cross", functions=["input_ids", "attention_mask"], bindings=bindings
        )
    ours = pair_inputs(spec, [[5]] * len(rows), rows, length=128)
    for row, (ids, mask) in enumerate(answers):
        # Vespa's token functions pad with 0, as do the tiny models.
        assert np.array_equal(ids, ours["input_ids"][row])
        assert np.array_equal(mask, ours["attention_mask"][row])
