import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from families import FAMILIES, TEXTS, make_family
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.contract.encode import (
    Encoder,
    SanitizedText,
    TokenizerFile,
    document_text,
    pair_inputs,
    sanitize_text,
    spec_of_tokenizer,
)
from ranker.errors import SpecError, SpecMismatch
from ranker.model.base import open_base
from ranker.records import Document


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> Encoder:
    return encoder_of(minilm)


def encoder_of(folder: Path) -> Encoder:
    base = open_base(str(folder), head="cls")
    return Encoder(base.spec(query_slots=32, document_slots=96), base.tokenizer_json)


@pytest.mark.parametrize("family", FAMILIES)
def test_pairs_equal_transformers_own_pair_encoding(family: str, tmp_path: Path) -> None:
    ours = encoder_of(make_family(family, tmp_path))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    pairs = [("what is a vaccine", text) for text in TEXTS[:5]] + [("fox", "a"), ("a b", "")]
    for query, document in pairs:
        # transformers takes an empty second text for none, so its own backend is asked.
        expected = theirs.backend_tokenizer.encode(query, document)
        if document:
            assert expected.ids == theirs(query, document)["input_ids"]
        got = pair_inputs(ours.spec, [ours.query_ids(query)], ours.texts_ids([document]))
        assert got["input_ids"][0].tolist() == expected.ids
        assert got["attention_mask"][0].tolist() == expected.attention_mask
        if ours.spec.segments:
            assert got["token_type_ids"][0].tolist() == expected.type_ids


def test_layout_of_each_family(tmp_path: Path) -> None:
    layouts = {}
    for family in FAMILIES:
        spec = encoder_of(make_family(family, tmp_path / family)).spec
        layouts[family] = (spec.separators, spec.document_tokens, spec.segments)
    assert layouts == {
        "bert": (1, 95, True),
        "roberta": (2, 94, False),
        "xlm-roberta": (2, 94, False),
        "deberta-v2": (1, 95, False),
        "modernbert": (1, 95, False),
    }


def test_bert_ids_by_hand(encoder: Encoder) -> None:
    hello, world = 7592, 2088
    assert encoder.query_ids("Hello") == [hello]
    got = pair_inputs(encoder.spec, [[hello]], [[world, world]], length=8)
    assert got["input_ids"].tolist() == [[101, hello, 102, world, world, 102, 0, 0]]
    assert got["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0, 0]]
    assert got["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 0, 0]]


def test_texts_are_cut_to_their_slots(encoder: Encoder) -> None:
    long = "word " * 500
    assert len(encoder.query_ids(long)) == 30
    assert len(encoder.texts_ids([long])[0]) == 95
    full = pair_inputs(encoder.spec, [encoder.query_ids(long)], encoder.texts_ids([long]))
    assert full["input_ids"].shape == (1, 128)
    assert full["input_ids"][0, -1] == encoder.spec.sep_id


@pytest.mark.parametrize("family", FAMILIES)
def test_special_token_text_is_ordinary_text(family: str, tmp_path: Path) -> None:
    ours = encoder_of(make_family(family, tmp_path))
    spec = ours.spec
    text = "a [SEP] b [PAD] [CLS] <s> </s> <pad> [MASK] <mask> <|endoftext|> |||IP_ADDRESS||| c"
    ids = ours.texts_ids([text])[0]
    assert ids
    assert not {0, spec.cls_id, spec.sep_id, spec.pad_id} & set(ids)
    assert ours.query_ids(text) == ids[:30]


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=200))
def test_any_text_gives_positive_ids_within_the_vocabulary(encoder: Encoder, text: str) -> None:
    ids = encoder.texts_ids([text])[0]
    assert all(0 < id_ < encoder.spec.vocabulary_size for id_ in ids)
    assert len(ids) <= 95
    assert encoder.query_ids(text) == encoder.query_ids(sanitize_text(text))


def test_batch_equals_one_by_one(encoder: Encoder) -> None:
    documents = [Document(str(n), text, text * 9) for n, text in enumerate(TEXTS)]
    batch = encoder.documents_ids(documents)
    assert batch == [encoder.document_ids(document) for document in documents]
    assert encoder.queries_ids(TEXTS) == [encoder.query_ids(text) for text in TEXTS]


def test_fixed_padding_and_truncation_of_a_shipped_tokenizer_are_off(minilm: Path) -> None:
    shipped = json.loads((minilm / "tokenizer.json").read_text())
    assert shipped["padding"] and shipped["truncation"]  # else this test shows nothing
    encoder = encoder_of(minilm)
    assert encoder.query_ids("hello") == [7592]
    assert encoder.count(["word " * 300]) == [300]


def test_illegal_code_points_become_spaces() -> None:
    assert sanitize_text("a\x00b\x0cc\ud800d\ufdd0e\ufffff\U0001fffeg") == "a b c d e f g"
    assert sanitize_text("tab\tline\nreturn\r\x7f\x9f\ufde0") == "tab\tline\nreturn\r\x7f\x9f\ufde0"


def test_a_sanitized_text_stays_one_when_joined(encoder: Encoder) -> None:
    document = Document("1", sanitize_text("red"), sanitize_text("fox\x00"))
    assert sanitize_text(document.text) is document.text == "fox "
    assert isinstance(document_text(document, encoder.spec), SanitizedText)
    assert encoder.document_ids(document) == encoder.texts_ids(["red fox"])[0]


def test_a_text_that_is_not_sanitized_is_not_taken_for_one(encoder: Encoder) -> None:
    half = Document("1", sanitize_text("red"), "fox\x00")
    assert not isinstance(document_text(half, encoder.spec), SanitizedText)
    assert encoder.document_ids(half) == encoder.texts_ids(["red fox"])[0]


def test_a_tokenizer_is_parsed_once(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = open_base(str(minilm))
    spec, parsed, loads = base.spec(query_slots=32, document_slots=96), [], json.loads

    def counted(text: str) -> Any:
        parsed.append(len(text))
        return loads(text)

    monkeypatch.setattr(json, "loads", counted)
    Encoder(spec, base.tokenizer_json)
    assert parsed == [len(base.tokenizer_json)]


def test_document_text_joins_the_fields_of_the_contract(encoder: Encoder) -> None:
    assert document_text(Document("1", "Title", "text"), encoder.spec) == "Title text"
    assert document_text(Document("1", "", "text"), encoder.spec) == "text"


def test_hash_is_of_the_content_not_of_the_layout(minilm: Path) -> None:
    text = (minilm / "tokenizer.json").read_text()
    values = json.loads(text)
    values["truncation"] = None
    expected = TokenizerFile(text).sha256
    assert TokenizerFile(json.dumps(values, indent=7)).sha256 == expected
    values["normalizer"]["lowercase"] = False
    assert TokenizerFile(json.dumps(values)).sha256 != expected


def test_another_tokenizer_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    other = open_base(str(make_family("bert", tmp_path))).tokenizer_json
    with pytest.raises(SpecMismatch, match="use the tokenizer of the same bundle"):
        Encoder(encoder.spec, other)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": 1}'])
def test_what_is_not_a_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="is not a tokenizer"):
        spec_of_tokenizer(text, vocabulary_size=9, max_positions=512, segments=True)


def test_a_tokenizer_without_a_pair_layout_is_refused(minilm: Path) -> None:
    values = json.loads((minilm / "tokenizer.json").read_text())
    values["post_processor"] = None
    with pytest.raises(SpecError, match="pairs of the form CLS a SEP"):
        spec_of_tokenizer(
            json.dumps(values), vocabulary_size=30522, max_positions=512, segments=True
        )


def test_vespa_truncates_the_closing_separator_first(encoder: Encoder) -> None:
    """Vespa's `tokenInputIds(6, ...)` gives [101,11,12,102,21,22] (`TokenTransformer`)."""
    got = pair_inputs(encoder.spec, [[11, 12]], [[21, 22, 23]], length=6)
    assert got["input_ids"].tolist() == [[101, 11, 12, 102, 21, 22]]
    assert np.all(got["attention_mask"] == 1)
