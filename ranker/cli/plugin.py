"""`ranker package --into` and `--remove`: a model into somebody's application, and out of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranker.cli.console import emit, note
from ranker.errors import ArtifactError, UsageError

__all__ = ["Wanted", "change_application"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The options of the verb that have to do with an application that is there.

    Attributes:
        app: the application's folder.
        schema, text, inherits, namespace: as for `ranker.package.into.install`; text by commas.
        remove: the model to take out.
    """

    app: Path | None
    schema: str | None
    text: str | None
    inherits: str | None
    namespace: str | None
    remove: str | None

    def check(
        self, *, bundle: Path | None, out: Path | None, name: str | None, dry_run: bool
    ) -> bool:
        """Whether an application that is there is meant.

        Raises:
            UsageError: options that contradict each other.
        """
        for_adding = {
            "--schema": self.schema,
            "--text": self.text,
            "--inherits": self.inherits,
            "--namespace": self.namespace,
        }
        given = [name for name, value in for_adding.items() if value is not None]
        if self.app is None:
            given += ["--remove"] * (self.remove is not None) + ["--dry-run"] * dry_run
            if given:
                raise UsageError(f"{', '.join(given)} go with --into APP, which is missing")
            return False
        if out is not None:
            raise UsageError("--into changes the application where it is; --out makes no sense")
        if self.remove is not None:
            given += ["a BUNDLE"] * (bundle is not None) + ["--name"] * (name is not None)
            if given:
                raise UsageError(f"--remove takes a model out; {', '.join(given)} makes no sense")
            return True
        missing = ["a BUNDLE"] * (bundle is None)
        missing += [name for name in ("--schema", "--text") if for_adding[name] is None]
        if missing:
            raise UsageError(f"--into puts a model into an application: name {', '.join(missing)}")
        return True


def change_application(
    wanted: Wanted, bundle: Path | None, name: str, *, dry_run: bool, check: bool, as_json: bool
) -> None:
    """Put a model in or take it out, show what that would change, or check that it is nothing."""
    plan = _plan(wanted, bundle, name)
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
            {**result, "diff": shown}, as_json=as_json, text=shown.rstrip("\n") or _unchanged(plan)
        )
        return
    if not check:
        plan.apply()
    manifest = None if wanted.remove else plan.installation.manifest.to_dict()
    emit({**result, "manifest": manifest}, as_json=as_json, text=_told(plan, wanted))


def _plan(wanted: Wanted, bundle: Path | None, name: str) -> Any:
    from ranker.artifacts.bundle import Bundle
    from ranker.package.into import install, uninstall

    if wanted.app is None:
        raise UsageError("name the application with --into")
    if wanted.remove is not None:
        return uninstall(wanted.app, wanted.remove)
    if bundle is None or wanted.schema is None or wanted.text is None:
        raise UsageError("--into needs a BUNDLE, --schema and --text")
    return install(
        Bundle.open(bundle),
        wanted.app,
        schema=wanted.schema,
        text_fields=_names(wanted.text),
        name=name,
        inherits=wanted.inherits,
        namespace=wanted.namespace,
    )


def _names(text: str) -> Sequence[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _told(plan: Any, wanted: Wanted) -> str:
    if not plan.changes:
        return _unchanged(plan)
    if wanted.remove:
        return "\n".join([*plan.summary(), f"{plan.app} is without the model {wanted.remove}"])
    from ranker.artifacts.installation import records

    several = len(records(plan.app)) > 1
    app = plan.app / plan.installation.record if several else plan.app
    manifest = plan.installation.manifest
    profiles = ", ".join(profile.name for profile in manifest.profiles)
    return "\n".join(
        [
            *plan.summary(),
            f"rank profiles of {manifest.schema}: {profiles} "
            f"(recommended: {manifest.recommended_profile})",
            f"documents bring {manifest.token_field} and {manifest.fingerprint_field}: "
            f"ranker feed DATA --app {app} --url URL",
            f"queries bring their token ids, too, and need a timeout above Vespa's 0.5 s: "
            f"ranker query TEXT --app {app} --url URL",
        ]
    )


def _unchanged(plan: Any) -> str:
    return f"{plan.app} has the model {plan.installation.name} already; nothing changes"
