"""Request parameters: from URL and body to one flat map under Vespa's own names."""

import json
import re
from collections.abc import Iterable
from typing import Any

from ranker.engine.errors import illegal_query
from ranker.engine.http.bodies import json_decoder, json_text
from ranker.engine.query.properties import Parameters, Value

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

QUERY_JSON = json_decoder(strict=False)
"""A query may have control characters in its strings, such as line ends in YQL, as in Vespa."""

_FEATURE = re.compile(r"(?:input|ranking\.features|rankfeature)\.(query\(.*\))")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
_VALUES = re.compile(r"input\..+|select\.(where|grouping)(\..*)?")
"""Parameters whose objects are values, not groups of parameters."""


def canonical(name: str) -> str:
    """Return the full name of a parameter; an input is always `input.query(x)`."""
    feature = _FEATURE.fullmatch(name)
    if feature:
        return f"input.{feature[1]}"
    return ALIASES.get(name.lower(), name)


def merged(body: Parameters, url: Iterable[tuple[str, str]]) -> Parameters:
    """Return all parameters under their full names; those of the URL override the body's."""
    return {canonical(name): value for name, value in (*body.items(), *url)}


def json_parameters(body: bytes) -> Parameters:
    """Read a JSON body as flat parameters: nested names are joined by dots, as in Vespa.

    Raises:
        QueryError: code 3, the body is not a JSON object.
    """
    try:
        value = _loads(json_text(body))
    except ValueError as error:
        raise illegal_query(f"expected a JSON object as the body: {error}") from error
    except RecursionError as error:
        raise illegal_query("the JSON body is nested too deeply") from error
    if not isinstance(value, dict):
        raise illegal_query(f"expected a JSON object as the body, got {value!r:.80}")
    parameters: dict[str, Value] = {}
    _flatten("", value, parameters)
    return parameters


def _loads(text: str) -> Any:
    """Parse JSON, in which Vespa also accepts strings in single quotes."""
    try:
        return QUERY_JSON.decode(text)
    except json.JSONDecodeError:
        if "'" not in text:
            raise
        return QUERY_JSON.decode(_QUOTED.sub(_double_quoted, text))


def _double_quoted(quoted: re.Match[str]) -> str:
    text = quoted[0]
    return text if text.startswith('"') else json.dumps(text[1:-1].replace("\\'", "'"))


def _flatten(prefix: str, value: dict[str, Any], parameters: dict[str, Value]) -> None:
    for key, item in value.items():
        name = prefix + key
        if isinstance(item, dict) and not _VALUES.fullmatch(name):
            _flatten(f"{name}.", item, parameters)
        else:
            parameters[name] = item
