import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.contract.spec import TokenSpec
from ranker.errors import SpecError, SpecMismatch

BERT = {
    "cls_id": 101,
    "sep_id": 102,
    "pad_id": 0,
    "segments": True,
    "vocabulary_size": 30522,
    "max_positions": 512,
    "tokenizer_sha256": "ab" * 32,
}


def spec(**changes: object) -> TokenSpec:
    return TokenSpec(**{**BERT, **changes})


def test_default_sizes_are_those_of_the_contract() -> None:
    default = spec()
    assert (default.query_tokens, default.document_tokens, default.length) == (30, 95, 128)


def test_a_second_separator_takes_a_document_slot() -> None:
    assert (spec(separators=2).query_tokens, spec(separators=2).document_tokens) == (30, 94)


@given(
    query=st.integers(3, 100),
    document=st.integers(3, 400),
    separators=st.sampled_from([1, 2]),
)
def test_parts_always_fill_the_sequence(query: int, document: int, separators: int) -> None:
    sized = spec(query_slots=query, document_slots=document, separators=separators)
    # CLS and the closing SEP are the two that are always there.
    assert 2 + sized.query_tokens + separators + sized.document_tokens == sized.length
    assert TokenSpec.from_dict(sized.to_dict()) == sized


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"query_slots": 2}, "query_slots must be at least 3"),
        ({"document_slots": 1}, "document_slots must be at least 2"),
        ({"document_slots": 2, "separators": 2}, "document_slots must be at least 3"),
        ({"query_slots": 300, "document_slots": 300}, "600 slots, but the model takes at most 512"),
        ({"separators": 3}, "separators must be 1 or 2"),
        ({"sep_id": 40000}, "sep_id 40000 is outside"),
        ({"text_fields": ()}, "text_fields must name"),
    ],
)
def test_invalid_contracts_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        spec(**changes)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SpecError, match="query_slots.*document_slots"):
        spec(query_slots=1, document_slots=1)


def test_fingerprint_covers_every_field_and_is_exact_as_a_double() -> None:
    changes = [
        {"query_slots": 31},
        {"document_slots": 95},
        {"pad_id": 1},
        {"segments": False},
        {"separators": 2},
        {"tokenizer_sha256": "cd" * 32},
        {"text_fields": ("text",)},
    ]
    prints = {spec(**change).fingerprint for change in changes} | {spec().fingerprint}
    assert len(prints) == len(changes) + 1
    assert int(float(spec().fingerprint_number)) == spec().fingerprint_number < 2**52
    assert f"{spec().fingerprint_number:013x}" == spec().fingerprint


def test_fingerprint_never_changes_by_itself() -> None:
    """Documents that are stored in Vespa carry it: changing it is a change of the format."""
    assert spec().fingerprint == "954fe4fa68fb6"


def test_mismatch_names_both_sides_and_what_differs() -> None:
    with pytest.raises(SpecMismatch) as caught:
        spec().require_same(spec(document_slots=64), here="the bundle", there="the application")
    message = str(caught.value)
    assert "the bundle" in message and "the application" in message
    assert "document_slots 96 / 64" in message
    assert spec().fingerprint in message and spec(document_slots=64).fingerprint in message


@pytest.mark.parametrize("values", [None, [], {"cls_id": 1}, {**BERT, "storage": "float"}])
def test_what_is_not_a_spec_is_refused(values: object) -> None:
    with pytest.raises(SpecError, match="not a token contract"):
        TokenSpec.from_dict(values)
