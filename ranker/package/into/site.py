"""An application in which a model is put, replaced or taken out, and the models that are there."""

import logging
from dataclasses import dataclass
from pathlib import Path

from ranker.artifacts.installation import Installation, content_hash, installations
from ranker.errors import ArtifactError
from ranker.package.application import is_own
from ranker.package.into import journal
from ranker.package.into.application import Application
from ranker.package.into.insertion import take_out
from ranker.package.into.tree import Tree

__all__ = ["ApplicationView"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApplicationView:
    """A view of an application and its models; changes are made in the view.

    Attributes:
        tree: the files.
        old: the model of the name in question, if it is there.
        others: the models of other names.
    """

    tree: Tree
    old: Installation | None
    others: tuple[Installation, ...]

    @classmethod
    def open(cls, app: Path, name: str) -> "ApplicationView":
        """Look at an application; changes of a process that was killed amid them are undone.

        Raises:
            ArtifactError: it is no folder, another process is at work there, or the record of a
                model cannot be read.
        """
        if not app.is_dir():
            raise ArtifactError(f"{app} is no folder; name a Vespa application package with --into")
        if is_own(app):
            raise ArtifactError(
                f"{app} was made by `ranker package --out`, which owns every file in it; package "
                "the other model with --out, too"
            )
        if journal.interrupted(app):
            logger.warning("an earlier run was interrupted in %s: its changes are undone", app)
            journal.recover(app)
        found = installations(app)
        old = next((one for one in found if one.name == name), None)
        return cls(Tree(app), old, tuple(one for one in found if one.name != name))

    def application(self) -> Application:
        """The schemas as they are in the view now.

        Raises:
            ArtifactError: it is no application, or a schema cannot be understood.
        """
        return Application(self.tree)

    def drop_files(self) -> None:
        """Leave the old model's files out, but for those that were edited by hand.

        Raises:
            ArtifactError: one was edited.
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
        """Leave the old model's lines in the schema out, unless another model needs them.

        Returns:
            Whether something was left out.

        Raises:
            ArtifactError: the lines were edited by hand.
        """
        lines = self.old.insertion if self.old else None
        if lines is None or any(one.insertion == lines for one in self.others):
            return False
        if not self.tree.holds(lines.file):  # the whole schema is gone
            return False
        text = take_out(self.tree.text(lines.file), lines)
        if text is None:
            raise ArtifactError(
                f"{self.tree.root / lines.file}: the lines that `ranker package` had put there "
                f"were edited by hand; make them what they were, then run it again:\n{lines.text}"
            )
        self.tree.write(lines.file, text)
        return True
