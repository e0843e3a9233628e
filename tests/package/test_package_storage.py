"""Both forms of stored token ids from the command line to the scores of a running engine."""

import dataclasses
import json
from pathlib import Path

import httpx
import pytest
from engine_support import make_bundle, running_engine
from plugin_support import application

from ranker.artifacts.bundle import Bundle
from ranker.artifacts.manifest import Manifest
from ranker.cli.app import main
from ranker.client.search import Client
from ranker.contract import vespa_names
from ranker.contract.storage import FLOAT, INT8, STORAGES
from ranker.errors import ArtifactError, SpecError
from ranker.feed import feed
from ranker.package.application import Package, differences_from, write
from ranker.package.into import install
from ranker.records import Document
from ranker.verify.parity.pairs import nasty_pairs

DOCUMENTS = [
    Document(str(number), pair.document.title, pair.document.text)
    for number, pair in enumerate(nasty_pairs(60))
]
QUESTIONS = ["red fox", "dog cat stone", "quick"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("storage") / "bundle")


def package_with(bundle: Bundle, out: Path, storage: str) -> Package:
    assert main(["package", str(bundle.path), "--out", str(out), "--storage", storage]) == 0
    return Package.open(out)


def test_both_forms_give_equal_scores_over_http(bundle: Bundle, tmp_path: Path) -> None:
    scores: dict[str, dict[tuple[str, str, str], float]] = {}
    stored: dict[str, str] = {}
    for storage in STORAGES:
        package = package_with(bundle, tmp_path / storage, storage)
        with running_engine(package.path, tmp_path / f"{storage}-data") as url:
            client = Client(url, package.path)
            assert not feed(DOCUMENTS, client.app, url).failed
            scores[storage] = {
                (question, profile.name, str(hit.doc_id)): hit.relevance
                for question in QUESTIONS
                for profile in package.manifest.profiles
                for hit in client.search(question, profile=profile.name, hits=60).hits
            }
            answer = httpx.get(f"{url}/document/v1/ranker/doc/docid/1").json()
            stored[storage] = answer["fields"][vespa_names.DOC_TOKEN_IDS]["type"]
    assert scores["float"] == scores["int8"]
    assert len(scores["float"]) > 4 * len(QUESTIONS)
    assert stored == {"float": "tensor<float>(d0[95])", "int8": "tensor<int8>(b[2],d0[95])"}


def test_what_is_read_back_can_be_fed_again(bundle: Bundle, tmp_path: Path) -> None:
    package = package_with(bundle, tmp_path / "app", "int8")
    with running_engine(package.path, tmp_path / "data") as url:
        client = Client(url, package.path)
        feed(DOCUMENTS[1:2], client.app, url)
        place = f"{url}/document/v1/ranker/doc/docid/1"
        fields = httpx.get(place).json()["fields"]
        ids = package.encoder().document_ids(DOCUMENTS[1])
        planes = fields[vespa_names.DOC_TOKEN_IDS]["values"]
        assert INT8.unpack([*planes[0], *planes[1]], 95)[: len(ids)] == ids
        assert httpx.post(place, json={"fields": fields}).status_code == 200
        assert httpx.get(place).json()["fields"] == fields
        wrong = {**fields, vespa_names.DOC_TOKEN_IDS: {"values": [300] + [0] * 189}}
        refused = httpx.post(place, json={"fields": wrong})
        assert refused.status_code == 400 and "300 is not a cell" in refused.text


def test_one_bundle_has_one_fingerprint_in_both_forms(bundle: Bundle, tmp_path: Path) -> None:
    packages = [write(bundle, tmp_path / s.name, storage=s) for s in STORAGES.values()]
    assert {package.spec.fingerprint for package in packages} == {bundle.spec.fingerprint}
    assert [package.manifest.storage for package in packages] == [FLOAT, INT8]
    for package in packages:
        assert Manifest.from_dict(json.loads(json.dumps(package.manifest.to_dict())))
        storage = package.manifest.storage
        assert differences_from(bundle, package.path, application="ranker", storage=storage) == []
    other = differences_from(bundle, packages[0].path, application="ranker", storage=INT8)
    assert any("doc.sd differs" in line for line in other)


def test_the_command_checks_and_tells_the_memory(
    bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = package_with(bundle, tmp_path / "app", "int8")
    assert "tensor<int8>(b[2],d0[95]), 196 bytes of memory per document" in capsys.readouterr().out
    command = ["package", str(bundle.path), "--out", str(package.path), "--check"]
    assert main([*command, "--storage", "int8"]) == 0
    assert main(command) == 1
    assert main([*command, "--storage", "bfloat16"]) == 2


def test_a_vocabulary_that_int8_does_not_hold_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    spec = dataclasses.replace(bundle.spec, vocabulary_size=250_002)
    large = dataclasses.replace(bundle, spec=spec)
    message = "storage int8 holds ids up to 65535, the vocabulary has ids up to 250001; package it"
    with pytest.raises(SpecError, match=message):
        write(large, tmp_path / "app", storage=INT8)
    assert not (tmp_path / "app").exists()
    shop = application("shop", tmp_path)
    with pytest.raises(SpecError, match=message):
        fields = ["title", "description"]
        install(large, shop, schema="product", text_fields=fields, storage=INT8)
    assert write(large, tmp_path / "app").manifest.storage == FLOAT
    larger = dataclasses.replace(spec, vocabulary_size=2**24 + 2)
    with pytest.raises(SpecError, match="float holds ids up to 16777216.* no storage holds them"):
        write(dataclasses.replace(bundle, spec=larger), tmp_path / "other")


def test_a_manifest_with_another_storage_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    values = write(bundle, tmp_path / "app").manifest.to_dict()
    with pytest.raises(ArtifactError, match="storage must be one of float, int8, got 'bfloat16'"):
        Manifest.from_dict({**values, "storage": "bfloat16"})
    old = {name: value for name, value in values.items() if name != "storage"}
    assert Manifest.from_dict(old).storage == FLOAT
