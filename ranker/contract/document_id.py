"""A document's id in Vespa: one value, written as an id or as a path of the document API.

https://docs.vespa.ai/en/schemas/documents.html#document-ids
"""

import re
from dataclasses import dataclass
from urllib.parse import quote

from ranker.contract.encode import sanitize_text
from ranker.errors import DataError

__all__ = ["DOCUMENT_API", "LONGEST_ID", "DocumentId"]

DOCUMENT_API = "/document/v1/"

LONGEST_ID = 65536
"""Characters of a whole id that Vespa takes, namespace and schema included."""

_LOCATION = re.compile(r"n=[0-9]+|g=[^:]+")
_SEGMENTS = {"n": "number", "g": "group"}


@dataclass(frozen=True, slots=True)
class DocumentId:
    """Vespa's id of a document.

    Attributes:
        namespace: the application's namespace.
        schema: the schema, which is also the document type.
        doc_id: the user's own id of the document.
        location: `n=NUMBER` or `g=NAME`, which keeps documents together; mostly empty.
    """

    namespace: str
    schema: str
    doc_id: str
    location: str = ""

    def __str__(self) -> str:
        return f"id:{self.namespace}:{self.schema}:{self.location}:{self.doc_id}"

    @property
    def path(self) -> str:
        """The document's path in the document API, quoted."""
        key, _, value = self.location.partition("=")
        segments = (_SEGMENTS[key], quote(value, safe="")) if key else ("docid",)
        namespace, doc_id = quote(self.namespace, safe=""), quote(self.doc_id, safe="")
        return DOCUMENT_API + "/".join((namespace, self.schema, *segments, doc_id))

    @classmethod
    def parse(cls, text: str) -> "DocumentId":
        """Read the form `id:NAMESPACE:SCHEMA:[LOCATION]:ID`.

        Raises:
            DataError: the text does not have that form.
        """
        parts = text.split(":", 4)
        if len(parts) < 5 or parts[0] != "id" or not parts[1]:
            raise DataError(f"expected a document id like id:NAMESPACE:SCHEMA::ID, got {text!r}")
        _, namespace, schema, location, doc_id = parts
        if location and not _LOCATION.fullmatch(location):
            raise DataError(
                f"the document id {text!r} has {location!r}, expected n=NUMBER or g=NAME"
            )
        return cls(namespace, schema, doc_id, location)

    def require_legal(self) -> None:
        """Refuse an id that Vespa refuses, or that no URL can hold.

        Raises:
            DataError: the id is empty, too long or has an illegal character or path segment.
        """
        if not self.doc_id:
            raise DataError("a document has an empty id; give every document one of its own")
        for part in (self.doc_id, self.namespace, self.location.partition("=")[2]):
            if sanitize_text(part) != part:
                raise DataError(f"the document id {part!r} holds a character that Vespa refuses")
            if part in (".", ".."):
                raise DataError(
                    f"the document id {part!r} cannot be part of a URL; give it another"
                )
        if (length := len(str(self))) > LONGEST_ID:
            raise DataError(
                f"a document id of {length} characters is too long for Vespa "
                f"(at most {LONGEST_ID}): {str(self)[:40]!r}…"
            )
