"""The names that Python, the schema, the JSON files and the ONNX model share."""

__all__ = [
    "BLEND",
    "BM25",
    "CONTENTS",
    "CROSS",
    "CROSS_GLOBAL",
    "DOC_TOKEN_IDS",
    "ID",
    "IDS_SUMMARY",
    "LARGEST_MODEL",
    "MODEL",
    "NAMESPACE",
    "ONNX_FINGERPRINT",
    "ONNX_INPUTS",
    "ONNX_OUTPUT",
    "ONNX_SPEC",
    "QUERY_TOKEN_IDS",
    "QUERY_TOKEN_FINGERPRINT",
    "RERANK_COUNT",
    "SCHEMA",
    "TEXT",
    "TIMEOUT_S",
    "TITLE",
    "TOKEN_FINGERPRINT",
]

NAMESPACE = "ranker"
SCHEMA = "doc"

# Fields of the schema.
ID = "doc_id"
TITLE = "title"
TEXT = "text"
CONTENTS = "contents"
"""Title and text in one indexed field: measured better than bm25(title) + bm25(text)
(nDCG@10 0.682 against 0.658 on SciFact, 0.432 against 0.361 on Vaswani)."""
DOC_TOKEN_IDS = "doc_token_ids"
TOKEN_FINGERPRINT = "token_fingerprint"
"""The fingerprint as a number: a field of every document, an input of every query."""

# Inputs of a query, as query(NAME) in the schema and input.query(NAME) in a request.
QUERY_TOKEN_IDS = "query_token_ids"
QUERY_TOKEN_FINGERPRINT = TOKEN_FINGERPRINT

# Rank profiles.
BM25 = "bm25"
CROSS = "cross"
CROSS_GLOBAL = "cross_global"
BLEND = "blend"

IDS_SUMMARY = "ids"
"""Summary class that has only the document's own id, for evaluation."""

RERANK_COUNT = 100
TIMEOUT_S = 10.0
"""Vespa's own default of 0.5 s is too short for a hundred cross-encoder calls."""

# The ONNX model.
MODEL = "cross_encoder"
LARGEST_MODEL = 2**31
"""Upper limit of the file's size in bytes, which protobuf sets; Vespa takes only one file."""
ONNX_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
ONNX_OUTPUT = "logits"
ONNX_FINGERPRINT = "ranker.fingerprint"
ONNX_SPEC = "ranker.spec"
