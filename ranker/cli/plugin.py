"""`ranker package --into` and `--remove`: add a model to an application, or remove it again."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranker.cli.console import emit, note
from ranker.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from ranker.contract.storage import Storage
    from ranker.package.into import Plan

__all__ = ["Wanted", "change_application", "plan_change"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options that concern an existing application.

    Attributes:
        app: the application's folder.
        schema, inherits, namespace: as for `ranker.package.into.install`.
        text_fields: the names of the text fields, separated by commas.
        remove: name of the model to remove.
    """

    app: Path | None
    schema: str | None
    text_fields: str | None
    inherits: str | None
    namespace: str | None
    remove: str | None

    def check(
        self, *, bundle: Path | None, out: Path | None, name: str | None, dry_run: bool
    ) -> bool:
        """Return True if the command is about an existing application.

        Raises:
            UsageError: options that contradict each other.
        """
        for_adding = {
            "--schema": self.schema,
            "--text-fields": self.text_fields,
            "--inherits": self.inherits,
            "--namespace": self.namespace,
        }
        given = [name for name, value in for_adding.items() if value is not None]
        if self.app is None:
            given += ["--remove"] * (self.remove is not None) + ["--dry-run"] * dry_run
            if given:
                raise UsageError(f"without --into APP, {', '.join(given)} makes no sense")
            return False
        if out is not None:
            raise UsageError("--into changes the application in place; --out makes no sense")
        if self.remove is not None:
            given += ["a BUNDLE"] * (bundle is not None) + ["--name"] * (name is not None)
            if given:
                raise UsageError(f"--remove removes a model; {', '.join(given)} makes no sense")
            return True
        missing = ["a BUNDLE"] * (bundle is None)
        missing += [name for name in ("--schema", "--text-fields") if for_adding[name] is None]
        if missing:
            raise UsageError(f"--into adds a model to an application: name {', '.join(missing)}")
        return True


def plan_change(wanted: Wanted, bundle: Path | None, name: str, *, storage: "Storage") -> "Plan":
    """Work out the changes without making them.

    Raises:
        RankerError: as `install` and `uninstall`.
    """
    from ranker.artifacts.bundle import Bundle
    from ranker.package.into import install, uninstall

    assert wanted.app is not None
    if wanted.remove is not None:
        return uninstall(wanted.app, wanted.remove)
    assert bundle is not None and wanted.schema is not None and wanted.text_fields is not None
    fields = [part.strip() for part in wanted.text_fields.split(",")]
    return install(
        Bundle.open(bundle),
        wanted.app,
        schema=wanted.schema,
        text_fields=[field for field in fields if field],
        name=name,
        inherits=wanted.inherits,
        namespace=wanted.namespace,
        storage=storage,
    )


def change_application(
    plan: "Plan", wanted: Wanted, *, dry_run: bool, check: bool, as_json: bool
) -> None:
    """Make the changes, show them as a diff, or check that there are none."""
    result: dict[str, Any] = {
        "application": str(plan.app),
        "changes": plan.summary(),
        "notes": list(plan.notes),
    }
    for line in plan.notes:
        note(line)
    if check and plan.changes:
        raise ArtifactError(f"{plan.app}: {'; '.join(plan.summary())}")
    if dry_run:
        shown = plan.diff().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        emit(
            {**result, "diff": shown},
            as_json=as_json,
            text=shown.rstrip("\n") or _report(plan, wanted),
        )
        return
    if not check:
        plan.apply()
    manifest = None if wanted.remove else plan.installation.manifest.to_dict()
    emit({**result, "manifest": manifest}, as_json=as_json, text=_report(plan, wanted))


def _report(plan: "Plan", wanted: Wanted) -> str:
    """Say what changed and what to do next."""
    from ranker.artifacts.installation import records

    if not plan.changes:
        return f"{plan.app} has the model {plan.installation.name} already; nothing changes"
    if wanted.remove:
        return "\n".join([*plan.summary(), f"the model {wanted.remove} is not in {plan.app} now"])
    several = len(records(plan.app)) > 1
    app = plan.app / plan.installation.record if several else plan.app
    manifest = plan.installation.manifest
    profiles = ", ".join(profile.name for profile in manifest.profiles)
    return "\n".join(
        [
            *plan.summary(),
            f"rank profiles of {manifest.schema}: {profiles} "
            f"(recommended: {manifest.recommended_profile})",
            f"documents need {manifest.token_field} ({manifest.token_type.attribute_bytes} bytes "
            f"of memory each) and {manifest.fingerprint_field}: "
            f"ranker feed DATA --app {app} --url URL",
            f"queries need their token ids, and a timeout above Vespa's 0.5 s: "
            f"ranker query TEXT --app {app} --url URL",
        ]
    )
