"""Options from a TOML file: one table for each verb, checked whole before anything runs."""

import tomllib
from pathlib import Path
from typing import Any

from ranker.errors import UsageError

__all__ = ["read_config"]


def read_config(path: Path, verbs: dict[str, set[str]]) -> dict[str, dict[str, Any]]:
    """Read default options by verb.

    Args:
        path: the TOML file.
        verbs: the option names of each verb.

    Raises:
        UsageError: the file cannot be read, or names an unknown verb or option; all
            problems at once.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {path}: {error}") from error
    problems, defaults = [], {}
    for verb, options in content.items():
        if verb in verbs and not isinstance(options, dict):
            problems.append(f"{verb} is {options!r}; expected a table of options: [{verb}]")
            continue
        if verb not in verbs:
            problems.append(f"unknown command [{verb}]; expected one of {', '.join(sorted(verbs))}")
            continue
        named = {name.replace("-", "_"): value for name, value in options.items()}
        problems += [
            f"[{verb}] has no option {name!r}; it has {', '.join(sorted(verbs[verb]))}"
            for name in named
            if name not in verbs[verb]
        ]
        defaults[verb] = named
    if problems:
        raise UsageError(f"--config {path}: " + "; ".join(problems))
    return defaults
