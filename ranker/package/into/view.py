"""An application to which a model is added, or from which one is removed, with its models."""

import logging
from dataclasses import dataclass
from pathlib import Path

from ranker.artifacts.installation import Installation, content_hash, installations
from ranker.errors import ArtifactError
from ranker.package.application import is_own
from ranker.package.into import journal
from ranker.package.into.application import Application
from ranker.package.into.insertion import remove
from ranker.package.into.tree import Tree

__all__ = ["ApplicationView"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApplicationView:
    """A view of an application and its models; changes are made in the view.

    Attributes:
        tree: the files.
        old: the model of the name in question, if the application has it.
        others: the models of other names.
    """

    tree: Tree
    old: Installation | None
    others: tuple[Installation, ...]

    @classmethod
    def open(cls, app: Path, name: str) -> "ApplicationView":
        """Open an application; changes of a process that was killed amid them are undone.

        Raises:
            ArtifactError: it is not a folder, another process is changing it, or the record of a
                model cannot be read.
        """
        if not app.is_dir():
            raise ArtifactError(
                f"{app} is not a folder; name a Vespa application package with --into"
            )
        if is_own(app):
            raise ArtifactError(
                f"{app} was made by `ranker package --out`, which owns every file in it; package "
                "the other model with --out as well"
            )
        if journal.interrupted(app):
            logger.warning("an earlier run was interrupted in %s; its changes are undone", app)
            journal.recover(app)
        models = installations(app)
        old = next((model for model in models if model.name == name), None)
        return cls(Tree(app), old, tuple(model for model in models if model.name != name))

    @property
    def models(self) -> tuple[Installation, ...]:
        """All models, the one of the name in question first."""
        return ((self.old,) if self.old else ()) + self.others

    def application(self) -> Application:
        """Read the schemas as they are in the view.

        Raises:
            ArtifactError: it is not an application, or a schema cannot be parsed.
        """
        return Application(self.tree)

    def drop_files(self) -> None:
        """Delete the old model's files.

        Raises:
            ArtifactError: one was edited by hand.
        """
        for file, expected in (self.old.files if self.old else {}).items():
            path = self.tree.root / file
            if path.exists() and content_hash(path) != expected:
                raise ArtifactError(
                    f"{path} was edited by hand after `ranker package` had written it; undo that, "
                    "or keep the file under another name, then run it again"
                )
            self.tree.delete(file)

    def drop_lines(self) -> bool:
        """Remove the old model's lines from the schema, unless another model needs them.

        Returns:
            True if lines were removed.

        Raises:
            ArtifactError: the lines were edited by hand.
        """
        lines = self.old.insertion if self.old else None
        if lines is None or any(model.insertion == lines for model in self.others):
            return False
        if not self.tree.holds(lines.file):  # the whole schema is gone
            return False
        text = remove(self.tree.text(lines.file), lines)
        if text is None:
            raise ArtifactError(
                f"{self.tree.root / lines.file}: the lines that `ranker package` had added were "
                f"edited by hand; restore them, then run it again:\n{lines.text}"
            )
        self.tree.write(lines.file, text)
        return True
