"""Answers as JSON, in Vespa's default result format."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from ranker.contract import vespa_names
from ranker.engine.documents.stored_document import StoredDocument
from ranker.engine.errors import QueryError
from ranker.engine.query.request import CLUSTER
from ranker.engine.rank.groups import Group
from ranker.engine.rank.search import Answer, Found

__all__ = ["answer_json", "dumps", "errors_json"]


def answer_json(answer: Answer, *, schema: str, elapsed_s: float) -> dict[str, Any]:
    """The body of a search that was answered.

    Args:
        answer: what was found.
        schema: name of the schema.
        elapsed_s: seconds since the request came in.
    """
    body: dict[str, Any] = {}
    if answer.request.trace_level:
        body["trace"] = {"children": [{"message": note} for note in answer.notes]}
    if answer.request.timing:
        body["timing"] = {
            "querytime": round(answer.query_s, 6),
            "summaryfetchtime": round(answer.fill_s, 6),
            "searchtime": round(elapsed_s, 6),
        }
    root: dict[str, Any] = {
        "id": "toplevel",
        "relevance": 1.0,
        "fields": {"totalCount": answer.total},
        "coverage": {
            "coverage": 100,
            "documents": answer.documents,
            "full": True,
            "nodes": 1,
            "results": 1,
            "resultsFull": 1,
        },
    }
    children = [] if answer.groups is None else [_groups(answer.groups)]
    children += [_hit(found, answer, schema) for found in answer.found]
    if children:
        root["children"] = children
    return {**body, "root": root}


def errors_json(faults: Sequence[QueryError]) -> dict[str, Any]:
    """The body of a search that was refused or failed."""
    errors = [
        {
            "code": fault.code,
            "summary": fault.summary,
            **({"source": CLUSTER} if fault.in_cluster else {}),
            "message": fault.message,
        }
        for fault in faults
    ]
    root = {"id": "toplevel", "relevance": 1.0, "fields": {"totalCount": 0}, "errors": errors}
    return {"root": root}


def dumps(value: Any) -> bytes:
    """JSON bytes; numbers that JSON does not have become strings, as in Vespa."""
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def _hit(found: Found, answer: Answer, schema: str) -> dict[str, Any]:
    default = answer.request.summary == "default"
    fields: dict[str, Any] = {}
    if found.match_features is not None:
        fields["matchfeatures"] = found.match_features
    fields["sddocname"] = schema
    if default:
        fields["documentid"] = found.id
        fields |= _summary(found.entry)
        if found.logit is not None:
            fields["summaryfeatures"] = {
                "logit": found.logit,
                "vespa.summaryFeatures.cached": 0.0,
            }
    elif found.entry.doc_id is not None:
        fields[vespa_names.ID] = found.entry.doc_id
    asked = answer.request.statement.fields
    if asked is not None:
        fields = {name: value for name, value in fields.items() if name in asked}
    hit_id = found.id if "documentid" in fields else _node_id(found.id)
    return {"id": hit_id, "relevance": found.relevance, "source": CLUSTER, "fields": fields}


def _groups(groups: Sequence[Group]) -> dict[str, Any]:
    """The result of a grouping by `doc_id`."""
    listed = [
        {
            "id": f"group:string:{group.value}",
            "relevance": group.relevance,
            "value": group.value,
            "fields": {"count()": group.count},
        }
        for group in groups
    ]
    name = vespa_names.ID
    one: dict[str, Any] = {"id": f"grouplist:{name}", "relevance": 1.0, "label": name}
    root = {"id": "group:root:0", "relevance": 1.0, "continuation": {"this": ""}}
    return {**root, "children": [{**one, "children": listed}]} if listed else root


def _summary(entry: StoredDocument) -> dict[str, Any]:
    """The fields of the default summary that are set."""
    values = entry.values()
    del values[vespa_names.DOC_TOKEN_IDS]
    return {name: value for name, value in values.items() if value is not None}


def _node_id(id_: str) -> str:
    """The id of a hit whose summary has no document id: cluster, node, global id."""
    return f"index:{CLUSTER}/0/{hashlib.md5(id_.encode(), usedforsecurity=False).hexdigest()[:24]}"


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
