"""TokenSpec: the one token contract, as a value.

A pair is `CLS query SEP(s) document SEP`.  The query part holds CLS, the query's tokens and one
SEP in `query_slots`; the document part holds the rest in `document_slots`.  In families with a
double separator (RoBERTa, XLM-R, MPNet), the second one takes a document slot.
"""

import functools
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ranker.contract.vespa_names import ONNX_INPUTS
from ranker.errors import SpecError, SpecMismatch

__all__ = ["TokenSpec"]


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """Sizes, special ids and layout of a query-document pair, and the tokenizer they belong to.

    Attributes:
        query_slots: positions of the query part: CLS + query tokens + one SEP.
        document_slots: positions of the document part: the other separators + document tokens.
        cls_id, sep_id, pad_id: special ids of the tokenizer.
        separators: separators between query and document, 1 (BERT) or 2 (RoBERTa).
        segments: True if the model distinguishes query and document by token_type_ids 0 and 1.
        vocabulary_size: ids run from 0 to this, exclusive.
        max_positions: longest sequence that the model takes.
        text_fields: fields of a document that are joined by a space, then tokenized.
        tokenizer_sha256: hash of the tokenizer's content, without padding and truncation.
    """

    query_slots: int = 32
    document_slots: int = 96
    cls_id: int
    sep_id: int
    pad_id: int
    separators: int = 1
    segments: bool
    vocabulary_size: int
    max_positions: int
    text_fields: tuple[str, ...] = ("title", "text")
    tokenizer_sha256: str

    def __post_init__(self) -> None:
        problems = _problems(self)
        if problems:
            raise SpecError("invalid token contract: " + "; ".join(problems))

    @property
    def query_tokens(self) -> int:
        """Maximum number of a query's tokens: the slots without CLS and SEP."""
        return self.query_slots - 2

    @property
    def document_tokens(self) -> int:
        """Maximum number of a document's tokens: the slots without all separators but the first."""
        return self.document_slots - self.separators

    @property
    def length(self) -> int:
        """Number of positions of a full pair."""
        return self.query_slots + self.document_slots

    @property
    def model_inputs(self) -> tuple[str, ...]:
        """Names of the model's inputs, which are also functions of a rank profile with a model."""
        return ONNX_INPUTS if self.segments else ONNX_INPUTS[:2]

    @functools.cached_property
    def fingerprint(self) -> str:
        """13 hex digits (52 bits) of the SHA-256 of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:13]

    @property
    def fingerprint_number(self) -> int:
        """The fingerprint as an integer below 2**52: exact in a double, so in a rank feature."""
        return int(self.fingerprint, 16)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, in the order of the fields."""
        return {**asdict(self), "text_fields": list(self.text_fields)}

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, values: object) -> "TokenSpec":
        """Make the spec of a JSON value.

        Raises:
            SpecError: a key is missing or unknown, or has an invalid value.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != known:
            got = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise SpecError(f"not a token contract: expected the keys {sorted(known)}, got {got}")
        return cls(**{**values, "text_fields": tuple(values["text_fields"])})

    def require_same(self, other: "TokenSpec", *, here: str, there: str) -> None:
        """Refuse to continue with two different contracts.

        Raises:
            SpecMismatch: they differ; the message names both sides and the differing fields.
        """
        if self == other:
            return
        ours, theirs = self.to_dict(), other.to_dict()
        different = ", ".join(
            f"{name} {ours[name]} / {theirs[name]}" for name in ours if ours[name] != theirs[name]
        )
        raise SpecMismatch(
            f"token contracts differ: {here} has {self.fingerprint}, {there} has "
            f"{other.fingerprint} ({different}); make both from the same bundle"
        )


def _problems(spec: TokenSpec) -> list[str]:
    problems = []
    if spec.separators not in (1, 2):
        problems.append(f"separators must be 1 or 2, got {spec.separators}")
    if spec.query_tokens < 1:
        problems.append(
            f"query_slots must be at least 3 (CLS, a token, SEP), got {spec.query_slots}"
        )
    if spec.document_tokens < 1:
        least = spec.separators + 1
        problems.append(f"document_slots must be at least {least}, got {spec.document_slots}")
    if spec.length > spec.max_positions:
        problems.append(
            f"{spec.query_slots} + {spec.document_slots} = {spec.length} slots, "
            f"but the model takes at most {spec.max_positions} positions; choose fewer "
            "query_slots or document_slots"
        )
    for name in ("cls_id", "sep_id", "pad_id"):
        if not 0 <= getattr(spec, name) < spec.vocabulary_size:
            problems.append(
                f"{name} {getattr(spec, name)} is outside the vocabulary of {spec.vocabulary_size}"
            )
    if not spec.text_fields:
        problems.append("text_fields must name at least one field")
    return problems
