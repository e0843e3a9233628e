"""Groups as token rows in files that are mapped into memory: training data may be larger than it.

A different text is tokenized and written once, two bytes a token, and costs some 170 bytes of
memory; a pair costs eight, whatever its length.
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

__all__ = ["EncodedGroup", "TokenStore", "TokenRows"]

Encode = Callable[[Sequence[str]], list[list[int]]]
TokenIds = npt.NDArray[np.unsignedinteger]


@dataclass(frozen=True, slots=True)
class EncodedGroup:
    """A group as token ids; `target` is what the loss takes: grades, or a teacher's scores."""

    query_ids: Sequence[int]
    documents_ids: Sequence[Sequence[int]]
    target: Sequence[float]


class TokenRows:
    """Token ids of texts, each different text once, in a file without a name.

    The system removes the file when the process ends, however it ends.

    Args:
        folder: where the file lies.
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
        """The rows of texts; those that are new are tokenized together and written.

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
                self._ids = np.memmap(self._file, self._type, mode="r")
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
        """The ids of a row."""
        return self._ids[self._ends[row] : self._ends[row + 1]]

    def close(self) -> None:
        """Give the file back, and its map, which on NFS would keep the folder from removal."""
        self._ids = np.zeros(0, self._type)
        with contextlib.suppress(OSError):  # of what a full disk did not take, told by then
            self._file.close()

    def length(self, row: int) -> int:
        """How many ids it has."""
        return self._ends[row + 1] - self._ends[row]


class TokenStore:
    """Groups by number; filled anew for each epoch, while the token rows stay.

    Args:
        folder: where the files lie.
        encoder: the contract.
        targets: what the loss learns from, for the documents of a group.
    """

    def __init__(
        self, folder: Path, encoder: Encoder, targets: Callable[[TrainingGroup], Sequence[float]]
    ) -> None:
        self._targets_of = targets
        size, self._spec = encoder.spec.vocabulary_size, encoder.spec
        self._queries = TokenRows(folder, encoder.queries_ids, vocabulary_size=size)
        self._documents = TokenRows(folder, encoder.texts_ids, vocabulary_size=size)
        self._clear()

    def _clear(self) -> None:
        self._query_of = array("q")
        self._ends = array("q", [0])
        self._documents_of = array("i")
        self._targets = array("f")

    def fill(self, chunks: Iterable[Sequence[TrainingGroup]]) -> None:
        """Forget the groups and take these; the texts of a chunk are tokenized together."""
        self._clear()
        for groups in chunks:
            documents = [
                document_text(document, self._spec)
                for group in groups
                for document in group.documents
            ]
            self._query_of.extend(self._queries.add([group.query for group in groups]))
            self._documents_of.extend(self._documents.add(documents))
            for group in groups:
                self._targets.extend(self._targets_of(group))
                self._ends.append(self._ends[-1] + len(group.documents))

    def close(self) -> None:
        """Give the files back."""
        self._queries.close()
        self._documents.close()

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._query_of)

    def __getitem__(self, number: int) -> EncodedGroup:
        """A group; its ids are read from the files."""
        start, end = self._ends[number], self._ends[number + 1]
        return EncodedGroup(
            self._queries[self._query_of[number]].tolist(),
            [self._documents[row].tolist() for row in self._documents_of[start:end]],
            self._targets[start:end],
        )

    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of the longest pair of each group [groups]."""
        return np.fromiter(
            (
                self._queries.length(query)
                + max(
                    self._documents.length(row)
                    for row in self._documents_of[self._ends[number] : self._ends[number + 1]]
                )
                for number, query in enumerate(self._query_of)
            ),
            np.int32,
            len(self),
        )
