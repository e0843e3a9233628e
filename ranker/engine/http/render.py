"""Answers as JSON, in Vespa's default result format."""

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any

from ranker.contract import vespa_names
from ranker.contract.fields import DOCUMENT_FIELDS
from ranker.engine.documents.stored_document import StoredDocument
from ranker.engine.errors import QueryError
from ranker.engine.query.request import CLUSTER
from ranker.engine.rank.groups import HitGroup
from ranker.engine.rank.search import Hit, SearchResult

__all__ = ["answer_json", "dumps", "errors_json"]


def answer_json(result: SearchResult, *, schema: str, elapsed_s: float) -> dict[str, Any]:
    """The body of a search that was answered.

    Args:
        result: the answered search.
        schema: name of the schema.
        elapsed_s: seconds since the request came in.
    """
    body: dict[str, Any] = {}
    if result.request.trace_level:
        body["trace"] = {"children": [{"message": note} for note in result.notes]}
    if result.request.timing:
        body["timing"] = {
            "querytime": round(result.query_s, 6),
            "summaryfetchtime": round(result.fill_s, 6),
            "searchtime": round(elapsed_s, 6),
        }
    root: dict[str, Any] = {
        "id": "toplevel",
        "relevance": 1.0,
        "fields": {"totalCount": result.total},
        "coverage": {
            "coverage": 100,
            "documents": result.documents,
            "full": True,
            "nodes": 1,
            "results": 1,
            "resultsFull": 1,
        },
    }
    children = [] if result.groups is None else [_groups(result.groups)]
    children += [_hit(hit, result, schema) for hit in result.hits]
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


def _hit(hit: Hit, result: SearchResult, schema: str) -> dict[str, Any]:
    default = result.request.summary == "default"
    fields: dict[str, Any] = {}
    if hit.match_features is not None:
        fields["matchfeatures"] = hit.match_features
    fields["sddocname"] = schema
    if default:
        fields["documentid"] = hit.document_id
        fields |= _summary(hit.document)
        if hit.logit is not None:
            fields["summaryfeatures"] = {
                "logit": hit.logit,
                "vespa.summaryFeatures.cached": 0.0,
            }
    elif (doc_id := hit.document.values[vespa_names.ID]) is not None:
        fields[vespa_names.ID] = doc_id
    asked = result.request.statement.fields
    if asked is not None:
        fields = {name: value for name, value in fields.items() if name in asked}
    hit_id = hit.document_id if "documentid" in fields else _node_id(hit.document_id)
    return {"id": hit_id, "relevance": hit.relevance, "source": CLUSTER, "fields": fields}


def _groups(groups: Sequence[HitGroup]) -> dict[str, Any]:
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


def _summary(document: StoredDocument) -> dict[str, Any]:
    """The fields of the default summary that are set."""
    return {
        name: value
        for name, value in document.values.items()
        if value is not None and DOCUMENT_FIELDS[name].summary
    }


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
