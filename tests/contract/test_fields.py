"""The table of stored fields."""

from ranker.contract import vespa_names
from ranker.contract.fields import DOCUMENT_FIELDS, FIELDS, TOKEN_FIELDS
from ranker.contract.storage import INT8


def test_every_name_is_there_once() -> None:
    names = [field.name for field in FIELDS]
    assert names == [
        vespa_names.ID,
        vespa_names.TITLE,
        vespa_names.TEXT,
        vespa_names.DOC_TOKEN_IDS,
        vespa_names.TOKEN_FINGERPRINT,
        vespa_names.CONTENTS,
    ]
    assert list(DOCUMENT_FIELDS) == names[:-1]
    assert all((field.sql_type is None) == (field.kind == "contents") for field in FIELDS)


def test_types_of_token_fields() -> None:
    tokens = INT8.tensor_type(95)
    types = {field.name: field.type_name(tokens) for field in TOKEN_FIELDS}
    assert types == {
        vespa_names.DOC_TOKEN_IDS: "tensor<int8>(b[2],d0[95])",
        vespa_names.TOKEN_FINGERPRINT: "long",
    }
