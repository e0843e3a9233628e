"""What the engine says of itself: the pages that clients and monitors of Vespa ask for."""

import os
import time
from collections.abc import Mapping
from typing import Any

from ranker import __version__

__all__ = ["health", "metrics", "metrics_v2", "overview", "resources", "version"]

VESPA_VERSION = "8.700.24"
"""The Vespa whose API this is; the `vespa` CLI reads it."""

_START = time.time()

_HANDLERS = {
    "com.yahoo.search.handler.SearchHandler": ["http://*/search/*", "http://*/search"],
    "com.yahoo.document.restapi.resource.DocumentV1ApiHandler": [
        "http://*/document/v1/*",
        "http://*/document/v1/*/",
    ],
    "com.yahoo.container.handler.observability.ApplicationStatusHandler": [
        "http://*/ApplicationStatus"
    ],
    "com.yahoo.container.jdisc.state.StateHandler": ["http://*/state/v1", "http://*/state/v1/*"],
    "com.yahoo.vespa.config.server.http.v2.ApplicationApiHandler": [
        "http://*/application/v2/tenant/*/prepareandactivate"
    ],
}
_OF_AN_APPLICATION = ("SearchHandler", "DocumentV1ApiHandler")


def overview(request: object, *, generation: int = 1, application: bool = True) -> dict[str, Any]:
    """`/` and `/ApplicationStatus`; the CLI looks for the document API's handler in it.

    Args:
        request: not looked at.
        generation: of the application that is served.
        application: whether there is one.
    """
    handlers = {
        name: bindings
        for name, bindings in _HANDLERS.items()
        if application or not name.endswith(_OF_AN_APPLICATION)
    }
    return {
        "application": {
            "vespa": {"version": VESPA_VERSION},
            "meta": {"name": "ranker", "user": "ranker", "path": "", "generation": generation},
            "user": {"version": __version__},
        },
        "abstractComponents": [],
        "handlers": [
            {"id": name, "class": name, "bundle": "ranker", "serverBindings": bindings}
            for name, bindings in handlers.items()
        ],
    }


def resources(request: Any) -> dict[str, Any]:
    """`/state/v1/`."""
    base = str(request.base_url).rstrip("/")
    names = ("metrics", "health", "version")
    return {"resources": [{"url": f"{base}/state/v1/{name}"} for name in names]}


def health(request: object) -> dict[str, Any]:
    """`/state/v1/health`."""
    return metrics({})


def version(request: object) -> dict[str, Any]:
    """`/state/v1/version`."""
    return {"version": VESPA_VERSION, "ranker": __version__, "pid": os.getpid()}


def metrics(values: Mapping[str, float]) -> dict[str, Any]:
    """`/state/v1/metrics`: counts since the start."""
    now = time.time()
    return {
        "time": int(now * 1000),
        "status": {"code": "up"},
        "metrics": {
            "snapshot": {"from": _START, "to": now},
            "values": [
                {"name": f"ranker.{name}", "values": {"count": value, "last": value}}
                for name, value in values.items()
            ],
        },
    }


def metrics_v2(values: Mapping[str, float]) -> dict[str, Any]:
    """`/metrics/v2/values`."""
    service = {
        "name": "vespa.container",
        "timestamp": int(time.time()),
        "status": {"code": "up", "description": "the embedded engine of ranker"},
        "metrics": [
            {
                "values": {f"ranker.{name}.last": value for name, value in values.items()},
                "dimensions": {},
            }
        ],
    }
    return {"nodes": [{"hostname": "localhost", "role": "embedded", "services": [service]}]}
