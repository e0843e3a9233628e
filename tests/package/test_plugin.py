"""A model put into applications that people have, and taken out again: `ranker package --into`."""

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from engine_support import make_bundle
from plugin_support import ODD, PLAIN, application, digest, odd_application
from scripted_server import Reply, Request, scripted

from ranker.artifacts.bundle import Bundle
from ranker.artifacts.installation import Installation
from ranker.artifacts.manifest import Manifest
from ranker.cli.app import main
from ranker.client.search import App, Client, query_body
from ranker.contract.storage import FLOAT
from ranker.errors import ArtifactError, DataError, ResponseError, UsageError
from ranker.feed import SchemaDocument, feed, operations, read_documents
from ranker.package.application import Package
from ranker.package.into import Plan, install, uninstall
from ranker.package.into.application import Application
from ranker.package.into.journal import STAGE, recover
from ranker.package.into.schema import read_schema
from ranker.package.into.tree import Tree
from ranker.records import Document

TESTS = Path(__file__).parents[1]
FIELDS = """
    field doc_token_ids type tensor<float>(d0[95]) {
        indexing: attribute
    }
    field token_fingerprint type long {
        indexing: attribute
    }
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return application("shop", tmp_path)


def put(bundle: Bundle, app: Path, schema: str = "product", **options: Any) -> Plan:
    """Add a model and return the plan that was made."""
    texts = {"product": "title description", "article": "headline story", "review": "text"}
    fields = options.pop("text_fields", texts.get(schema, "title body").split())
    plan = install(bundle, app, schema=schema, text_fields=fields, **options)
    plan.apply()
    return plan


# --- what is added, and that everything else stays -----------------------------------------------


CASES = {
    "shop": ("product", ["title", "description"], None),
    "library": ("book", ["title", "abstract"], "recent"),
    "news": ("article", ["headline", "story"], "fresh"),
}


@pytest.mark.parametrize("name", CASES)
def test_adding_twice_changes_nothing_and_removing_restores_all(
    name: str, bundle: Bundle, tmp_path: Path
) -> None:
    app = application(name, tmp_path)
    schema, fields, inherits = CASES[name]
    before = digest(app)
    plan = install(bundle, app, schema=schema, text_fields=fields, inherits=inherits)
    assert digest(app) == before, "a plan writes nothing"
    plan.apply()
    after = digest(app)
    changed = {path for path in before if after[path] != before[path]}
    assert changed == {f"schemas/{schema}.sd"}
    assert set(after) >= set(before)

    again = install(bundle, app, schema=schema, text_fields=fields, inherits=inherits)
    assert (again.changes, again.diff()) == ([], "")
    again.apply()
    assert digest(app) == after

    uninstall(app, "ranker").apply()
    assert digest(app) == before


@pytest.mark.parametrize("name", ODD)
def test_only_lines_are_inserted_in_any_style_of_schema(
    name: str, bundle: Bundle, tmp_path: Path
) -> None:
    app, _ = odd_application(tmp_path)
    before = digest(app)
    fields = ["heading", "rest"] if name == "inherits_below" else ["title", "body"]
    put(bundle, app, name, text_fields=fields)
    old = ODD[name].replace("NAME", name).encode()
    new = (app / "schemas" / f"{name}.sd").read_bytes()
    front = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old))
    added = len(new) - len(old)
    assert new[:front] + new[front + added :] == old, "one run of bytes was inserted"
    assert new.count(b"\r\n") - old.count(b"\r\n") in (0, new.count(b"\n") - old.count(b"\n"))
    here = Application(Tree(app))
    declared = here.document(here.schema(name)).fields
    tokens = [field for field in declared if field.startswith("doc_token_ids")]
    assert len(tokens) == 1
    assert [declared[field].type for field in tokens] == ["tensor<float>(d0[95])"]
    assert list(declared)[:-2] == list(read_schema(old.decode(), file="x").documents[0].fields)
    uninstall(app, "ranker").apply()
    assert digest(app) == before


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_are_indented_and_ended_as_those_around_them(
    end: str, bundle: Bundle, tmp_path: Path
) -> None:
    app, _ = odd_application(tmp_path)
    text = PLAIN.replace("NAME", "tabs").replace("    ", "\t").replace("\n", end)
    (app / "schemas" / "tabs.sd").write_bytes(b"\xef\xbb\xbf" + text.encode())
    put(bundle, app, "tabs")
    new = (app / "schemas" / "tabs.sd").read_bytes()
    assert new.startswith(b"\xef\xbb\xbfschema tabs")
    lines = new.decode("utf-8-sig").split(end)
    at = lines.index("\t\tfield doc_token_ids type tensor<float>(d0[95]) {")
    assert lines[at - 1].startswith("\t\t# `ranker package`: token ids of title, body; contract ")
    assert lines[at + 1 : at + 4] == [
        "\t\t\tindexing: attribute",
        "\t\t\tattribute: paged",
        "\t\t}",
    ]
    assert lines[at + 7 :] == ["\t}", "}", ""]


def test_rank_profiles_of_bm25(bundle: Bundle, shop: Path) -> None:
    plan = put(bundle, shop)
    manifest = plan.installation.manifest
    assert [profile.name for profile in manifest.profiles] == [
        "ranker_bm25",
        "ranker_cross",
        "ranker_cross_global",
        "ranker_blend",
    ]
    assert manifest.recommended_profile == "ranker_blend"
    assert manifest.match_fields == manifest.text_fields == ("title", "description")
    folder = shop / "schemas" / "product"
    first = (folder / "ranker_bm25.profile").read_text()
    assert "expression: bm25(title) + bm25(description)\n" in first
    blend = (folder / "ranker_blend.profile").read_text()
    assert "expression: bm25(title) + bm25(description) + 2 * logit\n" in blend
    cross = (folder / "ranker_cross.profile").read_text()
    assert "file: files/ranker.onnx" in cross
    assert "match-features: bm25(title) bm25(description) attribute(token_fingerprint)" in cross
    assert (shop / "files/ranker.onnx").read_bytes() == bundle.model.read_bytes()


def test_inherits_keeps_their_first_phase(bundle: Bundle, tmp_path: Path) -> None:
    app = application("library", tmp_path)
    plan = put(bundle, app, "book", text_fields=["title", "blurb"], inherits="recent")
    manifest = plan.installation.manifest
    assert [profile.name for profile in manifest.profiles] == [
        "recent",
        "ranker_cross",
        "ranker_cross_global",
    ]
    assert not manifest.profile("recent").needs_tokens
    assert manifest.recommended_profile == "ranker_cross"
    assert plan.notes == (
        "no rank profile ranker_blend: title, blurb are not all indexed for bm25",
    )
    cross = (app / "schemas/book/ranker_cross.profile").read_text()
    assert cross.startswith("rank-profile ranker_cross inherits recent {")
    assert "first-phase" not in cross
    assert not (app / "schemas/book/ranker_bm25.profile").exists()


# --- several models ------------------------------------------------------------------------------


def test_models_with_one_contract_share_the_fields(bundle: Bundle, shop: Path) -> None:
    before = digest(shop)
    put(bundle, shop)
    with_one = digest(shop)
    put(bundle, shop, name="other")
    with_two = digest(shop)
    assert with_two["schemas/product.sd"] == with_one["schemas/product.sd"]
    first, second = (Installation.open(shop / f"ext/ranker/{n}.json") for n in ("ranker", "other"))
    assert first.manifest.token_field == second.manifest.token_field == "doc_token_ids"
    uninstall(shop, "other").apply()
    assert digest(shop) == with_one
    put(bundle, shop, name="other")
    assert digest(shop) == with_two
    uninstall(shop, "ranker").apply()
    assert digest(shop)["schemas/product.sd"] == with_one["schemas/product.sd"]
    uninstall(shop, "other").apply()
    assert digest(shop) == before


@pytest.mark.parametrize("first_out", ["ranker", "small"])
def test_models_with_different_contracts_have_fields_of_their_own(
    first_out: str, bundle: Bundle, short: Bundle, shop: Path
) -> None:
    before = digest(shop)
    put(bundle, shop)
    plan = put(short, shop, name="small")
    assert plan.installation.manifest.token_field == "doc_token_ids_small"
    assert plan.installation.manifest.fingerprint_field == "token_fingerprint_small"
    here = Application(Tree(shop))
    fields = here.fields(here.schema("product"))
    assert fields["doc_token_ids"].type == "tensor<float>(d0[95])"
    assert fields["doc_token_ids_small"].type == "tensor<float>(d0[49])"
    uninstall(shop, first_out).apply()
    uninstall(shop, "small" if first_out == "ranker" else "ranker").apply()
    assert digest(shop) == before


def test_other_text_fields_are_other_token_ids(bundle: Bundle, shop: Path) -> None:
    put(bundle, shop)
    plan = put(bundle, shop, name="titles", text_fields=["title"])
    assert plan.installation.manifest.token_field == "doc_token_ids_titles"


def test_a_document_inherits_the_token_ids(bundle: Bundle, tmp_path: Path) -> None:
    app = application("library", tmp_path)
    before = digest(app)
    put(bundle, app, "work", text_fields=["title", "abstract"])
    sd = digest(app)["schemas/book.sd"]
    plan = put(bundle, app, "book", text_fields=["title", "abstract"], name="books")
    assert plan.installation.manifest.token_field == "doc_token_ids"
    assert digest(app)["schemas/book.sd"] == sd
    uninstall(app, "ranker").apply()
    uninstall(app, "books").apply()
    assert digest(app) == before


def test_a_name_that_a_document_below_has_is_not_taken(bundle: Bundle, tmp_path: Path) -> None:
    app = application("library", tmp_path)
    put(bundle, app, "book", text_fields=["title", "abstract"])
    plan = put(bundle, app, "work", text_fields=["title", "abstract"], name="works")
    assert plan.installation.manifest.token_field == "doc_token_ids_works"


def test_a_new_model_under_the_old_name(
    bundle: Bundle, short: Bundle, tmp_path: Path, shop: Path
) -> None:
    before = digest(shop)
    put(bundle, shop)
    same_contract = make_bundle(tmp_path / "retrained", blend_weight=3.5)
    plan = put(same_contract, shop)
    assert {change.name for change in plan.changes} == {
        "schemas/product/ranker_blend.profile",
        "ext/ranker/ranker.json",
    }
    put(short, shop, text_fields=["description", "title"])
    manifest = Package.open(shop).manifest
    assert (manifest.token_field, manifest.spec.document_tokens) == ("doc_token_ids", 49)
    put(bundle, shop, "review")
    assert not (shop / "schemas/product").exists()
    assert digest(shop)["schemas/product.sd"] == before["schemas/product.sd"]
    uninstall(shop, "ranker").apply()
    assert digest(shop) == before


# --- what people do to their files meanwhile -----------------------------------------------------


def test_removing_after_other_edits(bundle: Bundle, shop: Path) -> None:
    schema = shop / "schemas/product.sd"
    plain = schema.read_text()
    edited = plain.replace("field price type float", "field cost type float").replace(
        "    fieldset default {", "    # mine\n    fieldset default {"
    )
    put(bundle, shop)
    text = schema.read_text()
    for old, new in (
        ("field price type", "field cost type"),
        ("    fieldset d", "    # mine\n    fieldset d"),
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    schema.write_text(text)
    assert (
        install(bundle, shop, schema="product", text_fields=["title", "description"]).changes == []
    )
    (shop / "files/notes.txt").write_text("mine")
    uninstall(shop, "ranker").apply()
    assert schema.read_text() == edited
    assert (shop / "files/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_removing_after_git_changed_the_line_ends(end: str, bundle: Bundle, tmp_path: Path) -> None:
    app, _ = odd_application(tmp_path)
    name = "plain" if end == "\r\n" else "crlf"
    before = {path: path.read_bytes() for path in app.rglob("*.sd")}
    put(bundle, app, name)
    for path in (*app.rglob("*.sd"), *app.rglob("*.profile"), *app.rglob("tokenizer.json")):
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", end.encode()))
    Package.open(app)
    uninstall(app, "ranker").apply()
    now = (app / "schemas" / f"{name}.sd").read_bytes()
    assert now == before[app / "schemas" / f"{name}.sd"].replace(b"\r\n", b"\n").replace(
        b"\n", end.encode()
    )


def test_lines_of_ours_that_were_edited_stay(bundle: Bundle, shop: Path) -> None:
    put(bundle, shop)
    schema = shop / "schemas/product.sd"
    schema.write_text(schema.read_text().replace("attribute: paged", "attribute: fast-rank"))
    before = digest(shop)
    with pytest.raises(ArtifactError, match=r"product\.sd: the lines .* were edited by hand"):
        uninstall(shop, "ranker")
    assert (
        install(bundle, shop, schema="product", text_fields=["title", "description"]).changes == []
    )
    assert digest(shop) == before


def test_a_rank_profile_of_ours_that_was_edited_stays(bundle: Bundle, shop: Path) -> None:
    put(bundle, shop)
    profile = shop / "schemas/product/ranker_cross.profile"
    profile.write_text(profile.read_text().replace("rerank-count: 100", "rerank-count: 20"))
    before = digest(shop)
    message = r"ranker_cross\.profile was edited by hand"
    with pytest.raises(ArtifactError, match=message):
        uninstall(shop, "ranker")
    with pytest.raises(ArtifactError, match=message):
        put(bundle, shop, inherits="popular")
    assert digest(shop) == before
    assert Package.open(shop).manifest.schema == "product", "a tuned profile is not damage"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("schemas/product/best.profile", "rank-profile best inherits ranker_cross {}", "ranker_cr"),
        ("search/query-profiles/default.xml", "<query-profile id='default'><field name='ranking'>"
         "ranker_blend</field></query-profile>", "ranker_blend"),
        ("schemas/product/more.profile", "rank-profile more { first-phase {\n expression: "
         "attribute(token_fingerprint) } }", "line 2 names token_fingerprint"),
    ],
)  # fmt: skip
def test_what_is_still_used_is_not_removed(
    file: str, text: str, words: str, bundle: Bundle, shop: Path
) -> None:
    put(bundle, shop)
    (shop / file).parent.mkdir(parents=True, exist_ok=True)
    (shop / file).write_text(text)
    with pytest.raises(ArtifactError, match=words):
        uninstall(shop, "ranker")
    assert Package.open(shop)


def test_a_model_without_its_schema_can_be_removed(bundle: Bundle, shop: Path) -> None:
    put(bundle, shop, "review")
    (shop / "schemas/review.sd").unlink()
    uninstall(shop, "ranker").apply()
    assert not (shop / "ext").exists()


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schema", "options", "error", "words"),
    [
        ("shop", "toy", {}, UsageError, "unknown schema 'toy'; .* has: brand, product, review"),
        ("shop", "product", {"text_fields": ["titel"]}, UsageError, "no field titel; .*title"),
        ("shop", "product", {"text_fields": ["price"]}, UsageError, "price is of type float, expe"),
        ("shop", "product", {"text_fields": ["keywords"]}, UsageError, r"of type array<string>"),
        ("shop", "product", {"text_fields": ["everything"]}, UsageError, "outside the document"),
        ("shop", "product", {"text_fields": ["category"]}, UsageError, "index: enable-bm25"),
        ("shop", "product", {"text_fields": []}, UsageError, "--text-fields must name"),
        ("shop", "product", {"text_fields": ["title"] * 2}, UsageError, "different fields"),
        ("shop", "product", {"inherits": "gone"}, UsageError, "has: learned, popular"),
        ("shop", "product", {"namespace": "a:b c"}, UsageError, "no colon, space or control"),
        ("shop", "product", {"namespace": ""}, UsageError, "must have a character"),
        ("shop", "product", {"inherits": "learned"}, UsageError, "has a global phase"),
        ("shop", "product", {"name": "a-b"}, UsageError, "--name must be"),
        ("shop", "brand", {"text_fields": ["name"], "inherits": "default"}, UsageError,
         "none of the text fields is indexed"),
        ("library", "book", {"text_fields": ["author_name"]}, UsageError, "imported from a parent"),
        ("library", "book", {"text_fields": ["title", "blurb"]}, UsageError, "blurb is not in"),
    ],
)  # fmt: skip
def test_invalid_requests_are_refused_with_the_reason(
    name: str,
    schema: str,
    options: dict[str, Any],
    error: type[Exception],
    words: str,
    bundle: Bundle,
    tmp_path: Path,
) -> None:
    app = application(name, tmp_path)
    before = digest(app)
    with pytest.raises(error, match=words):
        put(bundle, app, schema, **options)
    assert digest(app) == before


def test_names_that_are_taken(bundle: Bundle, shop: Path) -> None:
    profile = "rank-profile mine { onnx-model ranker_cross { file: files/x.onnx } }"
    (shop / "schemas/product.sd").write_text(
        (shop / "schemas/product.sd")
        .read_text()
        .replace("    rank-profile l", f"    {profile}\n    rank-profile l")
    )
    with pytest.raises(ArtifactError, match="has an onnx-model ranker_cross already"):
        put(bundle, shop)
    (shop / "schemas/product").mkdir()
    (shop / "schemas/product/a.profile").write_text("rank-profile my_cross { }")
    with pytest.raises(ArtifactError, match=r"a\.profile has a rank profile my_cross already"):
        put(bundle, shop, name="my")
    (shop / "files").mkdir()
    (shop / "files/new.onnx").write_bytes(b"theirs")
    with pytest.raises(ArtifactError, match=r"new\.onnx exists already"):
        put(bundle, shop, name="new")
    with pytest.raises(
        UsageError, match="functions or inputs with names that .*: input_ids, logit"
    ):
        (shop / "schemas/product/a.profile").write_text(
            "rank-profile a { function logit() { expression: 1 } function inline input_ids() {} }"
        )
        put(bundle, shop, name="b", inherits="a")


def test_a_field_of_another_kind_keeps_its_name(bundle: Bundle, tmp_path: Path) -> None:
    """The news have a field doc_token_ids of their own."""
    app = application("news", tmp_path)
    plan = put(bundle, app, "article")
    assert plan.installation.manifest.token_field == "doc_token_ids_ranker"


def test_fields_that_were_added_by_hand(bundle: Bundle, tmp_path: Path) -> None:
    app = application("shop", tmp_path)
    schema = app / "schemas/review.sd"
    schema.write_text(schema.read_text().replace("  document {", f"  document {{{FIELDS}"))
    before = digest(app)
    plan = put(bundle, app, "review")
    assert plan.installation.insertion is None
    assert plan.installation.manifest.token_field == "doc_token_ids"
    uninstall(app, "ranker").apply()
    assert digest(app) == before


def test_a_link_is_not_edited_and_the_lines_are_shown(bundle: Bundle, shop: Path) -> None:
    schema = shop / "schemas/product.sd"
    elsewhere = shop.parent / "product.sd"
    schema.rename(elsewhere)
    schema.symlink_to(elsewhere)
    with pytest.raises(ArtifactError) as caught:
        put(bundle, shop)
    assert "is a link" in str(caught.value)
    assert "field doc_token_ids type tensor<float>(d0[95]) {\n" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schema product { document product {", "line 1: the block that begins here is not closed"),
        (
            "schema product {\n document product { field x type string }\n}\n}",
            "line 4: a } without an op",
        ),
        ('schema product {\n document product { field x type string { match: "x } } }', "string"),
        ("schema product {\n field x type tensor(x{ {} }", "line 2: the ( here is not closed"),
        ("schema product { }", "has 0 document blocks"),
    ],
)
def test_schemas_that_are_broken(text: str, words: str, bundle: Bundle, shop: Path) -> None:
    (shop / "schemas/product.sd").write_text(text)
    with pytest.raises(ArtifactError) as caught:
        put(bundle, shop)
    assert "product.sd" in str(caught.value) and words in str(caught.value)


def test_folders_that_are_not_applications(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"gone is not a folder"):
        put(bundle, tmp_path / "gone")
    with pytest.raises(ArtifactError, match=r"services\.xml is missing"):
        put(bundle, tmp_path)
    application("shop", tmp_path / "src" / "main").rename(tmp_path / "src/main/application")
    with pytest.raises(ArtifactError, match=r"it is in .*src/main/application"):
        put(bundle, tmp_path)


def test_a_package_of_ours_and_an_application_without_a_model(
    bundle: Bundle, tmp_path: Path, shop: Path
) -> None:
    from ranker.package.application import write

    package = write(bundle, tmp_path / "ours")
    with pytest.raises(ArtifactError, match="which owns every file in it"):
        put(bundle, package.path, "doc", text_fields=["title", "text"])
    with pytest.raises(ArtifactError, match="ranker package BUNDLE --into"):
        Package.open(shop)
    with pytest.raises(UsageError, match="has no model 'x' .*; it has: none"):
        uninstall(shop, "x")


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a\\b", ""])
def test_a_record_names_only_files_of_its_application(
    path: str, bundle: Bundle, shop: Path
) -> None:
    put(bundle, shop)
    record = shop / "ext/ranker/ranker.json"
    values = json.loads(record.read_text())
    record.write_text(json.dumps({**values, "files": {path: "0" * 64}}))
    with pytest.raises(ArtifactError, match="is not a path in an application"):
        uninstall(shop, "ranker")


def test_files_that_are_not_records(bundle: Bundle, shop: Path) -> None:
    put(bundle, shop)
    record = shop / "ext/ranker/ranker.json"
    good = record.read_text()
    for text, words in (
        ("{}", "not a record .*'format'"),
        (good.replace('"format": 1', '"format": 2'), "expected the format 1, got 2"),
        ("[", "not JSON"),
    ):
        record.write_text(text)
        with pytest.raises(ArtifactError, match=words):
            Package.open(shop)
    record.rename(record.with_name("other.json"))
    record.with_name("other.json").write_text(good)
    with pytest.raises(ArtifactError, match="is the record of the model ranker"):
        Package.open(shop)


# --- all or nothing ------------------------------------------------------------------------------


def test_a_write_that_fails_midway_leaves_nothing(bundle: Bundle, shop: Path) -> None:
    (shop / "ext").write_text("a file where a folder has to be")
    before = digest(shop)
    with pytest.raises(ArtifactError, match="nothing was changed"):
        put(bundle, shop)
    assert digest(shop) == before


def test_a_file_that_changed_since_the_plan(bundle: Bundle, shop: Path) -> None:
    plan = install(bundle, shop, schema="product", text_fields=["title", "description"])
    with (shop / "schemas/product.sd").open("a") as file:
        file.write("# meanwhile\n")
    before = digest(shop)
    with pytest.raises(ArtifactError, match=r"product\.sd was changed by another program just now"):
        plan.apply()
    assert digest(shop) == before


def test_two_at_once(bundle: Bundle, shop: Path) -> None:
    plan = install(bundle, shop, schema="product", text_fields=["title", "description"])
    handle = os.open(shop, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(ArtifactError, match="another ranker is changing"):
            plan.apply()
    finally:
        os.close(handle)
    plan.apply()


LOOP = """
import sys
from pathlib import Path
from ranker.artifacts.bundle import Bundle
from ranker.package.into import install, uninstall
bundle, app = Bundle.open(Path(sys.argv[1])), Path(sys.argv[2])
print("ready", flush=True)
while True:
    install(bundle, app, schema="product", text_fields=["title", "description"]).apply()
    uninstall(app, "ranker").apply()
"""


def test_killed_at_any_moment_it_is_all_or_nothing(bundle: Bundle, shop: Path) -> None:
    without = digest(shop)
    put(bundle, shop)
    states = [without, digest(shop)]
    uninstall(shop, "ranker").apply()
    chance, undone = random.Random(4), 0
    for _ in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(bundle.path), str(shop)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        while not (shop / STAGE).exists():
            assert process.poll() is None
        time.sleep(chance.uniform(0, 0.004))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        undone += (shop / STAGE).exists()
        recover(shop)
        assert digest(shop) in states
        if undone == 4:
            break
    assert undone == 4, "the kills came when nothing was under way"


def test_the_next_run_undoes_what_a_killed_one_began(
    bundle: Bundle, shop: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = digest(shop)
    put(bundle, shop)
    after = digest(shop)
    uninstall(shop, "ranker").apply()
    stage = shop / STAGE
    stage.mkdir()
    schema = shop / "schemas/product.sd"
    (stage / "0.old").write_bytes(schema.read_bytes())
    entry = {"name": "schemas/product.sd", "number": 0, "old": True, "new": True}
    new = {"name": "files/ranker.onnx", "number": 1, "old": False, "new": True}
    journal = {"files": [entry, new], "made": ["files"], "removed": []}
    (stage / "journal.json").write_text(json.dumps(journal))
    schema.write_text("half")
    (shop / "files").mkdir()
    (shop / "files/ranker.onnx").write_bytes(b"half")
    put(bundle, shop)
    assert "an earlier run was interrupted" in caplog.text
    assert digest(shop) == after
    uninstall(shop, "ranker").apply()
    assert digest(shop) == before


# --- the command line ----------------------------------------------------------------------------


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def add_arguments(bundle: Bundle, app: Path) -> list[str | Path]:
    options = ["--schema", "product", "--text-fields", "title, description"]
    return ["package", bundle.path, "--into", app, *options]


def test_a_dry_run_shows_a_diff_that_git_can_apply(
    bundle: Bundle, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(shop)
    assert run(*add_arguments(bundle, shop), "--dry-run") == 0
    diff = capsys.readouterr().out
    assert digest(shop) == before
    size = bundle.model.stat().st_size
    assert f"new file files/ranker.onnx, {size} bytes\n" in diff
    assert "+        field doc_token_ids type tensor<float>(d0[95]) {\n" in diff
    put(bundle, shop)
    wanted = digest(shop)
    uninstall(shop, "ranker").apply()
    subprocess.run(["git", "apply", "-"], cwd=shop, input=diff.encode(), check=True)
    now = digest(shop)
    large = {"files", "files/ranker.onnx", "ext/ranker/ranker", "ext/ranker/ranker/tokenizer.json"}
    assert {path: now.get(path) for path in wanted if path not in large} == {
        path: wanted[path] for path in wanted if path not in large
    }


def test_adding_checking_and_removing_on_the_command_line(
    bundle: Bundle, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest(shop)
    add = add_arguments(bundle, shop)
    assert run(*add, "--check") == 1
    assert "new files/ranker.onnx" in capsys.readouterr().err
    assert digest(shop) == before
    assert run(*add) == 0
    output = capsys.readouterr().out
    assert "rank profiles of product: ranker_bm25, ranker_cross, ranker_cross_global, " in output
    assert run(*add, "--check") == 0
    assert "nothing changes" in capsys.readouterr().out
    assert run(*add, "--json", "--namespace", "catalogue") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["changes"] == [f"changed ext/ranker/ranker.json, {record_size(shop)} bytes"]
    assert result["manifest"]["namespace"] == "catalogue"
    assert run("package", "--into", shop, "--remove", "ranker", "--dry-run") == 0
    assert "deleted file files/ranker.onnx" in capsys.readouterr().out
    assert run("package", "--into", shop, "--remove", "ranker") == 0
    assert digest(shop) == before


def record_size(app: Path) -> int:
    return (app / "ext/ranker/ranker.json").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--schema", "product"], "without --into APP, --schema makes no sense"),
        (["--dry-run"], "without --into APP, --dry-run makes no sense"),
        (["--remove", "ranker"], "without --into APP, --remove makes no sense"),
        (["--into", "APP"], "name a BUNDLE, --schema, --text-fields"),
        (["BUNDLE", "--into", "APP", "--schema", "product"], "name --text-fields"),
        (["BUNDLE", "--into", "APP", "--remove", "x"], "a BUNDLE makes no sense"),
        (["--into", "APP", "--remove", "x", "--name", "y"], "--name makes no sense"),
        (["BUNDLE", "--into", "APP", "--out", "y"], "--out makes no sense"),
        (["--into", "APP", "--remove", "x", "--text-fields", "a"], "--text-fields makes no sense"),
        (["--into", "APP", "--remove", "x"], "has no model 'x'"),
    ],
)
def test_options_that_contradict_each_other(
    arguments: list[str],
    words: str,
    bundle: Bundle,
    shop: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places: dict[str, str | Path] = {"APP": shop, "BUNDLE": bundle.path}
    assert run("package", *[places.get(argument, argument) for argument in arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_engine_says_that_it_cannot_run_it(
    bundle: Bundle, shop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(bundle, shop)
    assert run("serve", shop, "--data", tmp_path / "data", "--port", "1") != 0
    assert run("deploy", shop, "--target", "embedded", "--data", tmp_path / "data") == 1
    assert "runs packages of `ranker package --out` only" in capsys.readouterr().err


# --- feeding and asking --------------------------------------------------------------------------


FOX = Document("1", "red fox", "jumps over the dog")


def test_documents_go_into_the_text_fields(bundle: Bundle, shop: Path) -> None:
    put(bundle, shop, namespace="catalogue")
    app = App.open(shop)
    ids = app.encoder.document_ids(FOX)
    assert next(operations([FOX], app)) == {
        "put": "id:catalogue:product::1",
        "fields": {
            "title": "red fox",
            "description": "jumps over the dog",
            "doc_token_ids": {"values": FLOAT.pack(ids, 95)},
            "token_fingerprint": bundle.spec.fingerprint_number,
        },
    }


def test_a_single_text_field_holds_what_the_model_sees(bundle: Bundle, shop: Path) -> None:
    put(bundle, shop, "review")
    app = App.open(shop / "ext/ranker/ranker.json")
    (operation,) = operations([FOX], app)
    assert operation["put"] == "id:review:review::1"
    assert operation["fields"]["text"] == "red fox jumps over the dog"
    (again,) = operations(
        [SchemaDocument("id:x:review::1", {"text": "red fox jumps over the dog"})], app
    )
    assert again["fields"]["doc_token_ids"] == operation["fields"]["doc_token_ids"]


def test_a_document_brings_the_tokens_of_every_model(
    bundle: Bundle, short: Bundle, shop: Path
) -> None:
    put(bundle, shop)
    put(short, shop, name="small", text_fields=["description"])
    with pytest.raises(
        ArtifactError, match=r"holds several models; name one .*ranker\.json, .*sma"
    ):
        App.open(shop)
    long = Document("1", "red fox", "one two three " * 40)
    made = []
    for name in ("ranker", "small"):
        app = App.open(shop / f"ext/ranker/{name}.json")
        (operation,) = operations(
            [
                SchemaDocument(
                    "id:a:product::1",
                    {
                        "title": long.title,
                        "description": long.text,
                        "price": 2.5,
                    },
                )
            ],
            app,
        )
        made.append(operation)
    assert made[0] == made[1]
    fields = made[0]["fields"]
    assert fields["price"] == 2.5
    assert fields["doc_token_ids"]["values"] == bundle.encoder().document_ids(long)
    text = Document("1", "", long.text)
    assert fields["doc_token_ids_small"]["values"] == short.encoder().document_ids(text)
    assert fields["token_fingerprint_small"] == short.spec.fingerprint_number
    (of_collection,) = operations([long], App.open(shop / "ext/ranker/ranker.json"))
    assert of_collection["fields"]["doc_token_ids_small"] == fields["doc_token_ids_small"]


def test_vespas_own_lines_are_fed_as_they_are_with_tokens(
    bundle: Bundle, shop: Path, tmp_path: Path
) -> None:
    put(bundle, shop)
    app = App.open(shop)
    lines = [
        {"put": "id:a b:product::x/1", "fields": {"title": "red fox", "price": 1.5}},
        {"id": "id:other:product:n=7:y", "fields": {
            "title": None, "description": "lazy\x07dog", "doc_token_ids": {"values": [1]}}},
        {"fields": {"keywords": ["a"]}, "put": "id:other:product:g=g h:z"},
        {"put": "id:other:review::1", "fields": {"text": "x"}},
        {"put": "id:other:product:q:1", "fields": {}},
        {"put": "id:other:product:g=..:1", "fields": {}},
        {"put": "id:..:product::1", "fields": {}},
        {"put": "id:other:product:g=\ud800:1", "fields": {}},
    ]  # fmt: skip
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    seen: dict[str, dict[str, Any]] = {}

    def answer(request: Request) -> Reply:
        if request.path.startswith("/ranker/"):
            return Reply(404, b"{}")
        seen[request.path] = request.json()["fields"]
        return Reply(200, b"{}")

    with scripted(answer) as server:
        report = feed(read_documents(path), app, server.url, connections=1)
    assert (report.read, report.ok, report.sanitized) == (8, 3, 1)
    assert [failure.message for failure in report.failed] == [
        "the document 'id:other:review::1' is of type review; the model is for product",
        "the document id 'id:other:product:q:1' has 'q', expected n=NUMBER or g=NAME",
        "the document id '..' cannot be part of a URL; give it another",
        "the document id '..' cannot be part of a URL; give it another",
        "the document id '\\ud800' holds a character that Vespa refuses",
    ]
    assert list(seen) == [
        "/document/v1/a%20b/product/docid/x%2F1",
        "/document/v1/other/product/number/7/y",
        "/document/v1/other/product/group/g%20h/z",
    ]
    first, second, third = seen.values()
    assert first["price"] == 1.5
    assert first["doc_token_ids"]["values"] == FLOAT.pack(app.encoder.texts_ids(["red fox"])[0], 95)
    assert second["description"] == "lazy dog"
    assert second["doc_token_ids"]["values"] == FLOAT.pack(
        app.encoder.texts_ids(["lazy dog"])[0], 95
    )
    assert third["keywords"] == ["a"] and set(third["doc_token_ids"]["values"]) == {0}


def test_lines_that_are_not_documents(tmp_path: Path) -> None:
    path = tmp_path / "docs.jsonl"
    good = '{"put": "id:a:product::1", "fields": {}}'
    rows = [good, "{", "[]", '{"update": "id:a:b::1", "fields": {}}', '{"put": "1", "fields": {}}']
    path.write_text("\n".join(rows))
    with pytest.raises(
        DataError, match=r"line 2: not JSON.*line 3: expected.*`vespa feed`.*line 5"
    ):
        list(read_documents(path))
    assert [source.document_id for source in read_documents(path, skip_bad=True)] == [
        "id:a:product::1"
    ]
    for row, words in [
        ('{"put": "id:a:product::2", "fields": {}, "condition": "a"}', "condition would be lost"),
        ("[" * 200_000, "not JSON"),
    ]:
        path.write_text(f"{good}\n{row}\n")
        with pytest.raises(DataError, match=f"line 2: {words}"):
            list(read_documents(path))
    path.write_text('{"id": "1", "title": "red", "text": "fox"}\n')
    assert list(read_documents(path)) == [Document("1", "red", "fox")]
    with pytest.raises(DataError, match="line 1: expected"):
        list(read_documents(path, format="vespa"))


def test_a_question_is_put_to_every_text_field(bundle: Bundle, shop: Path) -> None:
    put(bundle, shop)
    body = query_body("red fox", App.open(shop), hits=5)
    assert body["ranking.profile"] == "ranker_blend"
    assert body["yql"] == (
        "select * from product where "
        '({targetHits: 1000, grammar: "tokenize", defaultIndex: "title"}userInput(@query_text)) or '
        '({targetHits: 1000, grammar: "tokenize", defaultIndex: "description"}'
        "userInput(@query_text))"
    )
    with pytest.raises(UsageError, match="has: ranker_bm25, ranker_cross"):
        query_body("red", App.open(shop), profile="popular")


def hit(doc_id: str, **features: float) -> dict[str, Any]:
    fields = {"title": "red fox", "documentid": doc_id, "matchfeatures": features}
    return {"id": doc_id, "relevance": 1.5, "fields": fields}


def found(*children: dict[str, Any]) -> bytes:
    return json.dumps({"root": {"fields": {"totalCount": 1}, "children": children}}).encode()


def test_hits_have_the_documents_own_ids(
    bundle: Bundle, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(bundle, shop)
    spec = {"attribute(token_fingerprint)": float(bundle.spec.fingerprint_number)}
    features = {**spec, "bm25(title)": 1.25, "bm25(description)": 2.5}
    answers = [found(hit("id:a:product::x:y", **features), hit("id:a:product:n=1:z", **spec))]
    with scripted(lambda request: Reply(200, answers[0])) as server:
        with Client(server.url, App.open(shop)) as client:
            hits = client.search("red", profile="ranker_cross").hits
        assert [one.doc_id for one in hits] == ["x:y", "z"]
        assert run("query", "red", "--app", shop, "--url", server.url) == 0
        line = capsys.readouterr().out.splitlines()[2].split()
        assert line == ["1", "1.500", "3.750", "x:y", "red", "fox"]
        answers[0] = found(hit("index:shop/0/abc", **spec))
        with Client(server.url, App.open(shop)) as client:
            with pytest.raises(ResponseError, match="has no document id"):
                client.search("red", profile="ranker_bm25")


def test_old_manifests_have_the_default_names(bundle: Bundle, tmp_path: Path) -> None:
    from ranker.package.application import write

    manifest = write(bundle, tmp_path / "app").manifest
    values = manifest.to_dict()
    for name in ("text_fields", "match_fields", "id_field", "token_field", "ids_summary"):
        del values[name]
    assert Manifest.from_dict(values) == manifest


def test_an_evaluation_asks_the_models_own_profiles(
    bundle: Bundle, shop: Path, tmp_path: Path
) -> None:
    put(bundle, shop)
    rows = [
        {"query_id": "q", "query": "red fox", "doc_id": doc_id, "title": doc_id, "label": label}
        for doc_id, label in (("a", 1), ("b", 0))
    ]
    data = tmp_path / "judged.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = {"attribute(token_fingerprint)": float(bundle.spec.fingerprint_number)}
    asked = []

    def answer(request: Request) -> Reply:
        asked.append(request.json())
        return Reply(200, found(*(hit(f"id:product:product::{name}", **spec) for name in "ba")))

    with scripted(answer) as server:
        out = tmp_path / "evaluation"
        assert run("evaluate", data, "--app", shop, "--url", server.url, "--out", out) == 0
    names = ["ranker_bm25", "ranker_cross", "ranker_blend"]
    assert {body["ranking.profile"] for body in asked} == set(names)
    assert not any("presentation.summary" in body for body in asked)
    assert sorted(path.stem for path in out.glob("*.run")) == sorted(names)
