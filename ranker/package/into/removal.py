"""Taking a model out of somebody's application."""

import re
from pathlib import Path, PurePosixPath

from ranker.artifacts.installation import Installation
from ranker.errors import ArtifactError, UsageError
from ranker.package.into.plan import Plan
from ranker.package.into.site import ApplicationView

__all__ = ["uninstall"]


def uninstall(app: Path, name: str) -> Plan:
    """Take a model out of an application again; the rest of it may have changed meanwhile.

    Args:
        app: folder of the application package.
        name: the model's name.

    Raises:
        UsageError: there is no such model; the message lists those there are.
        ArtifactError: what was put in has been edited by hand, or something needs it.
    """
    site = ApplicationView.open(app, name)
    old = site.old
    if old is None:
        known = ", ".join(one.name for one in site.others) or "none"
        raise UsageError(f"{app} has no model {name!r} of `ranker package --into`; it has: {known}")
    site.drop_files()
    profiles = [PurePosixPath(file).stem for file in old.files if file.endswith(".profile")]
    fields = [old.manifest.token_field, old.manifest.fingerprint_field] if site.drop_lines() else []
    _require_unused(site, old, profiles, fields)
    site.tree.delete(old.record)
    return Plan(app, site.tree.changes(), old.folders, old)


def _require_unused(
    site: ApplicationView, old: Installation, profiles: list[str], fields: list[str]
) -> None:
    """Refuse to take away what somebody's schema, rank profile or query profile goes on to name.

    Raises:
        ArtifactError: says where.
    """
    application = site.application()
    if old.manifest.schema not in {schema.name for schema in application.schemas}:
        return
    ours = {file for one in site.others for file in one.files}
    for file in application.files_near(application.schema(old.manifest.schema)):
        # Another model's profiles name fields of its own, and query inputs of equal names.
        names = profiles if file in ours else [*profiles, *fields]
        text = site.tree.text(file)
        found = re.search(rf"(?<!query\()(?<![\w-])(?:{'|'.join(names)})(?![\w-])", text)
        if found:
            line = text.count("\n", 0, found.start()) + 1
            raise ArtifactError(
                f"{site.tree.root / file}, line {line} names {found.group()}, which goes with the "
                f"model {old.name}; take that out first"
            )
