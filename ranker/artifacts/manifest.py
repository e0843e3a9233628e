"""The manifest of an application package: what clients, feeders and the engine read of it."""

import functools
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from ranker.artifacts.calibration import UNKNOWN, Calibration
from ranker.artifacts.profile import Profile
from ranker.contract import vespa_names
from ranker.contract.encode import document_text, join_texts
from ranker.contract.spec import TokenSpec
from ranker.contract.storage import FLOAT, STORAGES, Storage, TensorType
from ranker.errors import ArtifactError, SpecError, UsageError
from ranker.records import Document

__all__ = ["Manifest"]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`, or the record of a model in an existing application.

    Attributes:
        application: name of the application; None for a model in an existing application.
        model: name of a model in an existing application; None in a package of its own.
        namespace: namespace of document ids, as in `id:NAMESPACE:SCHEMA::x`.
        schema: name of the schema, which is also the document type.
        spec: the token contract.
        profiles: the rank profiles.
        recommended_profile: the profile that did best on queries held out of training.
        timeout_s: default timeout of a query, seconds.
        model_sha256: hash of the ONNX file.
        ranker_version: version that wrote the package.
        text_fields: fields of the schema with the text: the title's first, then the text's.
        match_fields: fields that are searched for a question, each by its own `userInput`.
        id_field: field with the document's own id, or None if there is none.
        token_field: field with the document's token ids.
        fingerprint_field: field with the fingerprint under which they were made.
        ids_summary: summary class without texts, for evaluation, or None if there is none.
        storage: the form in which the token ids are stored.
        calibration: the logit as a probability; None if that is not known.
        uncalibrated: why it is not known; None if it is.

    Raises:
        SpecError: the storage does not hold every id of the vocabulary.
    """

    application: str | None
    namespace: str
    schema: str
    spec: TokenSpec
    profiles: tuple[Profile, ...]
    recommended_profile: str
    timeout_s: float
    model_sha256: str
    ranker_version: str
    text_fields: tuple[str, ...] = (vespa_names.TITLE, vespa_names.TEXT)
    match_fields: tuple[str, ...] = (vespa_names.CONTENTS,)
    id_field: str | None = vespa_names.ID
    token_field: str = vespa_names.DOC_TOKEN_IDS
    fingerprint_field: str = vespa_names.TOKEN_FINGERPRINT
    ids_summary: str | None = vespa_names.IDS_SUMMARY
    storage: Storage = FLOAT
    model: str | None = None
    calibration: Calibration | None = None
    uncalibrated: str | None = UNKNOWN

    def __post_init__(self) -> None:
        if (self.application is None) == (self.model is None):
            raise ValueError("it must name either an application or a model in an existing one")
        largest = self.spec.vocabulary_size - 1
        if largest > self.storage.largest_id:
            larger = [form.name for form in STORAGES.values() if form.largest_id >= largest]
            hint = f"package it with --storage {larger[0]}" if larger else "no storage holds them"
            raise SpecError(
                f"the storage {self.storage.name} holds ids up to {self.storage.largest_id}, the "
                f"vocabulary has ids up to {largest}; {hint}"
            )

    @property
    def name(self) -> str:
        """The name of the application, or of the model in an existing application."""
        return str(self.application or self.model)

    @functools.cached_property
    def token_type(self) -> TensorType:
        """The type of the field with a document's token ids."""
        return self.storage.tensor_type(self.spec.document_tokens)

    def profile(self, name: str) -> Profile:
        """Return the profile of that name.

        Raises:
            UsageError: there is none; the message lists those there are.
        """
        for profile in self.profiles:
            if profile.name == name:
                return profile
        known = ", ".join(profile.name for profile in self.profiles)
        raise UsageError(f"unknown rank profile {name!r}; the application has: {known}")

    def texts_of(self, document: Document) -> dict[str, str]:
        """Return a document's texts by the names of the schema's fields.

        The title is in the first text field and the text in the second one; a single text field
        holds the text that the model sees.
        """
        if len(self.text_fields) == 1:
            return {self.text_fields[0]: document_text(document, self.spec)}
        return {self.text_fields[0]: document.title, self.text_fields[1]: document.text}

    def document_of(self, doc_id: str, texts: Mapping[str, Any]) -> Document:
        """Make the document of texts by the names of the schema's fields: undo `texts_of`.

        Text fields after the second one are joined to the text by spaces.
        """
        first, *rest = (_text(texts.get(name)) for name in self.text_fields)
        if not rest and "title" not in self.spec.text_fields:
            return Document(doc_id, "", first)
        return Document(doc_id, first, join_texts(rest))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; the fingerprint is added for people to read."""
        return {
            **asdict(self),
            "text_fields": list(self.text_fields),
            "match_fields": list(self.match_fields),
            "spec": self.spec.to_dict(),
            "profiles": [asdict(profile) for profile in self.profiles],
            "storage": self.storage.name,
            "fingerprint": self.spec.fingerprint,
        }

    @classmethod
    def from_dict(cls, values: Any, *, where: str = "manifest.json") -> "Manifest":
        """Make the manifest of a JSON value.

        Args:
            values: the JSON value, not checked yet.
            where: the file that it comes from, for messages.

        Raises:
            ArtifactError: the value is not a manifest.
            SpecError: its token contract is invalid.
        """
        try:
            # Packages that were made before a field existed have its default.
            names = [f.name for f in fields(cls) if f.default is MISSING or f.name in values]
            rest = {name: values[name] for name in names}
            rest["spec"] = TokenSpec.from_dict(values["spec"])
            rest["profiles"] = tuple(Profile(**profile) for profile in values["profiles"])
            if rest.get("calibration") is not None:
                rest["calibration"] = Calibration(**values["calibration"])
            for name in ("text_fields", "match_fields"):
                if name in rest:
                    rest[name] = tuple(rest[name])
            if "storage" in rest:
                if rest["storage"] not in STORAGES:
                    raise ValueError(
                        f"storage must be one of {', '.join(STORAGES)}, got {rest['storage']!r}"
                    )
                rest["storage"] = STORAGES[rest["storage"]]
            return cls(**rest)
        except KeyError as error:
            raise ArtifactError(
                f"{where} is not a manifest of ranker: {error} is missing"
            ) from error
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{where} is not a manifest of ranker: {error}") from error


def _text(value: object) -> str:
    """Return a field's value as a text, empty if it is not set."""
    return value if isinstance(value, str) else str(value or "")
