"""Request parameters: from URL and body to one flat map with Vespa's own names."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ranker.engine.errors import illegal_query, json_type
from ranker.engine.http.bodies import json_text

__all__ = ["canonical", "json_parameters", "merged"]

ALIASES = {
    "query": "model.queryString",
    "type": "model.type",
    "filter": "model.filter",
    "language": "model.language",
    "lang": "model.language",
    "locale": "model.locale",
    "encoding": "model.encoding",
    "default-index": "model.defaultIndex",
    "defaultindex": "model.defaultIndex",
    "restrict": "model.restrict",
    "sources": "model.sources",
    "search": "model.sources",
    "searchpath": "model.searchPath",
    "count": "hits",
    "hits": "hits",
    "start": "offset",
    "offset": "offset",
    "timeout": "timeout",
    "yql": "yql",
    "ranking": "ranking.profile",
    "sorting": "ranking.sorting",
    "location": "ranking.location",
    "datetime": "ranking.freshness",
    "ranking.rerankcount": "ranking.rerankCount",
    "format": "presentation.format",
    "template": "presentation.format",
    "summary": "presentation.summary",
    "bolding": "presentation.bolding",
    "tracelevel": "trace.level",
    "explainlevel": "trace.explainLevel",
    "tracetimestamps": "trace.timestamps",
    "nocache": "noCache",
}
"""Aliases, which Vespa reads in any case."""

_FEATURE = re.compile(r"(?:input|ranking\.features|rankfeature)\.(query\(.*\))")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_RAW = re.compile(r"input\..+|select\.(where|grouping)(\..*)?")


def canonical(name: str) -> str:
    """The full name of a parameter; an input is always `input.query(x)`."""
    feature = _FEATURE.fullmatch(name)
    if feature:
        return f"input.{feature[1]}"
    return ALIASES.get(name.lower(), name)


def merged(body: Mapping[str, str], url: Iterable[tuple[str, str]]) -> dict[str, str]:
    """All parameters under their full names; those of the URL override the body's."""
    pairs = [*body.items(), *url]
    return {canonical(name): value for name, value in pairs}


def json_parameters(body: bytes) -> dict[str, str]:
    """A JSON body as flat parameters (`Json2SingleLevelMap`).

    Objects are flattened with dots, but below `input.` and `select.where`; arrays and those stay
    JSON text, as do numbers and booleans.

    Raises:
        QueryError: code 3, the body is not a JSON object.
    """
    if not body.strip():
        raise illegal_query("Expected start of object, got 'null'")
    try:
        value = _loads(json_text(body))
    except ValueError as error:
        raise illegal_query(f"Json parse error.: {error}") from error
    except RecursionError as error:
        raise illegal_query("Json parse error.: it is nested too deeply") from error
    if not isinstance(value, dict):
        raise illegal_query(f"Expected start of object, got '{json_type(value)}'")
    found: dict[str, str] = {}
    _flatten("", value, found)
    return found


def _loads(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        if "'" not in text:
            raise
        return _DECODER.decode(_QUOTED.sub(_double_quoted, text))


def _not_json(name: str) -> None:
    raise ValueError(f"Non-standard token '{name}'")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_not_json)


def _double_quoted(quoted: re.Match[str]) -> str:
    """Vespa takes strings in single quotes too."""
    text = quoted[0]
    if text.startswith('"'):
        return text
    return json.dumps(text[1:-1].replace("\\'", "'"))


def _flatten(prefix: str, value: dict[str, Any], found: dict[str, str]) -> None:
    for key, item in value.items():
        name = prefix + key
        if isinstance(item, dict) and not _RAW.fullmatch(name):
            _flatten(f"{name}.", item, found)
        elif isinstance(item, str):
            found[name] = item
        else:
            found[name] = json.dumps(item, ensure_ascii=False)
