"""Token ids in files that are mapped into memory, so that training data may be larger than it.

Each different text is tokenized and written once in a run, two bytes a token, regardless of its
use: groups to learn from or documents to rerank.  It costs some 170 bytes of memory; a pair of a
group costs eight, regardless of its length.
"""

import contextlib
import hashlib
import tempfile
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ranker.contract.encode import Encoder, document_text
from ranker.dataset.groups import TrainingGroup
from ranker.errors import TrainError
from ranker.files import write_failure
from ranker.records import Document

__all__ = ["EncodedGroup", "TokenRows", "TokenStore", "TokenizedTexts"]

Encode = Callable[[Sequence[str]], list[list[int]]]
TokenIds = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """A group as token ids; `target` is what the loss learns from, one value a document."""

    query_ids: Sequence[int]
    documents_ids: Sequence[Sequence[int]]
    target: Sequence[float]


class TokenRows:
    """Token ids of texts, each different text once, in a file without a name.

    The system removes the file when the process ends, however it ends.

    Args:
        folder: folder of the file.
        encode: texts to ids, in batches.
        vocabulary_size: above 65,536 an id takes four bytes.
    """

    def __init__(self, folder: Path, encode: Encode, *, vocabulary_size: int) -> None:
        self._encode, self._folder = encode, folder
        self._type = np.dtype(np.uint16 if vocabulary_size <= 2**16 else np.uint32)
        self._file = tempfile.TemporaryFile(dir=folder)
        self._known: dict[bytes, int] = {}
        self._ends = array("q", [0])
        self._ids: TokenIds = np.zeros(0, self._type)

    def add(self, texts: Sequence[str]) -> list[int]:
        """Return the rows of texts; new ones are tokenized together and written.

        Raises:
            TrainError: the disk is full.
        """
        # Digests, not texts, so that the texts need not stay; 96 bits do not meet by chance.
        keys = [
            hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).digest()
            for text in texts
        ]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        if new:
            rows = self._encode(list(new.values()))
            self._append(b"".join(np.asarray(ids, self._type).tobytes() for ids in rows))
            for key, ids in zip(new, rows, strict=True):
                self._known[key] = len(self._ends) - 1
                self._ends.append(self._ends[-1] + len(ids))
            if self._ends[-1]:  # an empty file cannot be mapped
                self._ids = np.asarray(np.memmap(self._file, self._type, mode="r"))
        return [self._known[key] for key in keys]

    def _append(self, content: bytes) -> None:
        try:
            self._file.write(content)
            self._file.flush()
        except OSError as error:
            raise TrainError(
                f"cannot write token ids to {self._folder}: {write_failure(error)}, and repeat"
            ) from error

    def __getitem__(self, row: int) -> TokenIds:
        """Return the ids of a row."""
        return self._ids[self._ends[row] : self._ends[row + 1]]

    def close(self) -> None:
        """Release the file and its map, which on NFS would keep the folder from being removed."""
        self._ids = np.zeros(0, self._type)
        with contextlib.suppress(OSError):  # of what a full disk did not take, reported by then
            self._file.close()

    def length(self, row: int) -> int:
        """Return the number of ids in a row."""
        return self._ends[row + 1] - self._ends[row]


class TokenizedTexts:
    """The queries and the documents of a run as token rows.

    Args:
        folder: folder of the files.
        encoder: the contract.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        size, self.spec = encoder.spec.vocabulary_size, encoder.spec
        self.queries = TokenRows(folder, encoder.queries_ids, vocabulary_size=size)
        self.documents = TokenRows(folder, encoder.texts_ids, vocabulary_size=size)

    def add_documents(self, documents: Iterable[Document]) -> list[int]:
        """Return the rows of documents.

        Raises:
            TrainError: the disk is full.
        """
        return self.documents.add([document_text(document, self.spec) for document in documents])

    def close(self) -> None:
        """Release the files."""
        self.queries.close()
        self.documents.close()


class TokenStore:
    """Groups by number; filled again for each epoch.

    Args:
        texts: the tokenized texts of the run.
        targets: what the loss learns from, for the documents of a group.
    """

    def __init__(
        self,
        texts: TokenizedTexts,
        targets: Callable[[TrainingGroup], Sequence[float]],
    ) -> None:
        self._texts, self._targets_of = texts, targets
        self._clear()

    def _clear(self) -> None:
        self._query_of = array("q")
        self._ends = array("q", [0])
        self._documents_of = array("i")
        self._targets = array("f")

    def fill(self, chunks: Iterable[Sequence[TrainingGroup]]) -> None:
        """Replace the groups by these; the texts of a chunk are tokenized together."""
        self._clear()
        for groups in chunks:
            documents = (document for group in groups for document in group.documents)
            self._query_of.extend(self._texts.queries.add([group.query for group in groups]))
            self._documents_of.extend(self._texts.add_documents(documents))
            for group in groups:
                self._targets.extend(self._targets_of(group))
                self._ends.append(self._ends[-1] + len(group.documents))

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self._query_of)

    def __getitem__(self, number: int) -> EncodedGroup:
        """Return a group; its ids are read from the files."""
        start, end = self._ends[number], self._ends[number + 1]
        return EncodedGroup(
            self._texts.queries[self._query_of[number]].tolist(),
            [self._texts.documents[row].tolist() for row in self._documents_of[start:end]],
            self._targets[start:end],
        )

    def lengths(self) -> npt.NDArray[np.int32]:
        """Return the number of tokens in the longest pair of each group [groups]."""
        return np.fromiter(
            (
                self._texts.queries.length(query)
                + max(
                    self._texts.documents.length(row)
                    for row in self._documents_of[self._ends[number] : self._ends[number + 1]]
                )
                for number, query in enumerate(self._query_of)
            ),
            np.int32,
            len(self),
        )
