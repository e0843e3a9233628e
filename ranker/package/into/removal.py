"""Removing a model from an application."""

import re
from pathlib import Path, PurePosixPath

from ranker.artifacts.installation import Installation
from ranker.errors import ArtifactError, UsageError
from ranker.package.into.plan import Plan
from ranker.package.into.view import ApplicationView

__all__ = ["uninstall"]


def uninstall(app: Path, name: str) -> Plan:
    """Remove a model from an application; the rest of it may have changed in the meantime.

    Args:
        app: folder of the application package.
        name: the model's name.

    Raises:
        UsageError: there is no such model; the message lists those there are.
        ArtifactError: what was added has been edited by hand, or something still needs it.
    """
    view = ApplicationView.open(app, name)
    old = view.old
    if old is None:
        known = ", ".join(one.name for one in view.others) or "none"
        raise UsageError(f"{app} has no model {name!r} of `ranker package --into`; it has: {known}")
    view.drop_files()
    profiles = [PurePosixPath(file).stem for file in old.files if file.endswith(".profile")]
    fields = [old.manifest.token_field, old.manifest.fingerprint_field] if view.drop_lines() else []
    _require_unused(view, old, profiles, fields)
    view.tree.delete(old.record)
    return Plan(app, view.tree.changes(), old.folders, old)


def _require_unused(
    view: ApplicationView, old: Installation, profiles: list[str], fields: list[str]
) -> None:
    """Refuse to remove what a schema, rank profile or query profile still names.

    Raises:
        ArtifactError: it is named; the message says where.
    """
    application = view.application()
    if old.manifest.schema not in {schema.name for schema in application.schemas}:
        return
    ours = {file for one in view.others for file in one.files}
    for file in application.files_near(application.schema(old.manifest.schema)):
        # Another model's profiles name fields of its own, and query inputs of equal names.
        names = profiles if file in ours else [*profiles, *fields]
        text = view.tree.text(file)
        used = re.search(rf"(?<!query\()(?<![\w-])(?:{'|'.join(names)})(?![\w-])", text)
        if used:
            line = text.count("\n", 0, used.start()) + 1
            raise ArtifactError(
                f"{view.tree.root / file}, line {line} names {used.group()}, which is removed with "
                f"the model {old.name}; remove that line first"
            )
