"""Options from a TOML file: one table for each verb, checked whole before anything runs."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ranker.errors import UsageError

__all__ = ["read_config"]

_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "boolean": ((bool,), "true or false"),
    "integer": ((int,), "a whole number"),
    "integer range": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
}
_OTHERS = ((str,), "a string")


def read_config(path: Path, verbs: Mapping[str, click.Command]) -> dict[str, dict[str, Any]]:
    """Read default options by verb, under the names of their parameters.

    An option has its name on the command line, with hyphens or underscores.

    Args:
        path: the TOML file.
        verbs: the commands by name.

    Raises:
        UsageError: the file cannot be read, names an unknown verb or option, or has a value of
            another type than the option; all problems at once.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {path} is not TOML: {error}") from error
    problems: list[str] = []
    defaults: dict[str, dict[str, Any]] = {}
    for verb, table in content.items():
        if verb not in verbs:
            problems.append(f"unknown command [{verb}]; expected one of {', '.join(sorted(verbs))}")
        elif not isinstance(table, dict):
            problems.append(f"{verb} is {table!r}; expected a table of options: [{verb}]")
        else:
            defaults[verb] = _options(verb, table, verbs[verb].params, problems)
    if problems:
        raise UsageError(f"--config {path}: " + "; ".join(problems))
    return defaults


def _options(
    verb: str, table: Mapping[str, Any], parameters: list[click.Parameter], problems: list[str]
) -> dict[str, Any]:
    """Return the options of a table by the names of their parameters, and add what is wrong."""
    known = {p.opts[0].lstrip("-"): p for p in parameters if p.name != "help"}
    named: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("_", "-")
        parameter = known.get(name) or known.get(key)
        # A file that a verb has saved has the names of parameters, such as `as_json`.
        parameter = parameter or next((p for p in known.values() if p.name == key), None)
        if parameter is None or parameter.name is None:
            problems.append(f"[{verb}] has no option {name!r}; it has {', '.join(sorted(known))}")
        elif parameter.name in named:
            problems.append(f"[{verb}] has {name} twice, with a hyphen and with an underscore")
        else:
            named[parameter.name] = value
            kinds, words = _KINDS.get(parameter.type.name, _OTHERS)
            several = getattr(parameter, "multiple", False) or parameter.nargs == -1
            values = value if several and isinstance(value, list) else [value]
            if several and not isinstance(value, list):
                problems.append(f"[{verb}] {name} must be a list, got {value!r}")
            elif any(type(one) not in kinds for one in values):
                problems.append(f"[{verb}] {name} must be {words}, got {value!r}")
    return named
