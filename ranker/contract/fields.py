"""The fields of a document, in one table from which the schema and the engine are made."""

from dataclasses import dataclass
from typing import Literal

from ranker.contract import vespa_names
from ranker.contract.storage import TensorType

__all__ = ["DOCUMENT_FIELDS", "FIELDS", "Field", "Kind", "TOKEN_FIELDS"]

Kind = Literal["string", "text", "contents", "tokens", "number"]
"""What a field holds: a string that is matched as a whole, a text, all texts joined, token ids,
a number."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of the schema.

    Attributes:
        name: the name in the schema, in JSON and in the engine's store.
        kind: what it holds.
        vespa_type: the type in the schema, for token ids without its dimensions; see `type_name`.
        sql_type: the type of the engine's column, None where nothing is stored.
        indexed: True if its words are in an index with BM25.
        attribute: True if it can be matched as a whole, sorted by, or read by a rank profile.
        summary: True if a hit shows it.
    """

    name: str
    kind: Kind
    vespa_type: Literal["string", "long", "tensor"]
    sql_type: Literal["TEXT", "INTEGER", "BLOB"] | None
    indexed: bool = False
    attribute: bool = False
    summary: bool = True

    def type_name(self, tokens: TensorType) -> str:
        """Return the whole type in the schema.

        Args:
            tokens: the type of the field with the token ids.
        """
        return str(tokens) if self.vespa_type == "tensor" else self.vespa_type


FIELDS = (
    Field(
        name=vespa_names.ID,
        kind="string",
        vespa_type="string",
        sql_type="TEXT",
        attribute=True,
    ),
    Field(
        name=vespa_names.TITLE,
        kind="text",
        vespa_type="string",
        sql_type="TEXT",
        indexed=True,
    ),
    Field(name=vespa_names.TEXT, kind="text", vespa_type="string", sql_type="TEXT"),
    Field(
        name=vespa_names.DOC_TOKEN_IDS,
        kind="tokens",
        vespa_type="tensor",
        sql_type="BLOB",
        attribute=True,
        summary=False,
    ),
    Field(
        name=vespa_names.TOKEN_FINGERPRINT,
        kind="number",
        vespa_type="long",
        sql_type="INTEGER",
        attribute=True,
    ),
    Field(
        name=vespa_names.CONTENTS,
        kind="contents",
        vespa_type="string",
        sql_type=None,
        indexed=True,
        summary=False,
    ),
)
"""Every field of the schema, in its order."""

DOCUMENT_FIELDS = {field.name: field for field in FIELDS if field.kind != "contents"}
"""The fields that a document brings, by name; `contents` is made from the texts."""

TOKEN_FIELDS = tuple(
    field
    for field in FIELDS
    if field.name in (vespa_names.DOC_TOKEN_IDS, vespa_names.TOKEN_FINGERPRINT)
)
"""The fields that a model needs: the token ids, and the fingerprint of their contract."""
