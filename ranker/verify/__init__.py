"""Check an application package with Vespa's own Java code, or without it as far as possible.

`verify` runs four checks: the package in Vespa's validators; token ids and scores in torch, ONNX,
the embedded engine and Vespa's evaluator; feed operations in Vespa's feed reader; queries in
Vespa's real container.  The Java side is in `vespa/java/`; it is built once into the user's cache.
"""

from ranker.verify.checks import CHECKS, Progress, verify
from ranker.verify.result import CheckResult
from ranker.verify.vespa.build import VESPA_VERSION, class_path
from ranker.verify.vespa.process import VespaProcess, container, working_copy

__all__ = [
    "CHECKS",
    "VESPA_VERSION",
    "CheckResult",
    "Progress",
    "VespaProcess",
    "class_path",
    "container",
    "verify",
    "working_copy",
]
