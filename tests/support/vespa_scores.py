"""Scores by Vespa's own evaluator, compared with ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ranker.artifacts.manifest import Manifest
from ranker.contract import vespa_names
from ranker.contract.encode import pair_inputs
from ranker.contract.storage import FLOAT
from ranker.export.score import Scorer
from ranker.package.application import Package
from ranker.verify import VespaProcess
from ranker.verify.parity.pairs import TextPair

TOLERANCE = 1e-4
FUNCTIONS = {"second": "secondphase", "global": "globalphase"}


def binding(
    manifest: Manifest, query: Sequence[int], document: Sequence[int], bm25: float
) -> dict[str, Any]:
    """What a query and a document bring, as rank features."""
    spec, fields = manifest.spec, manifest.match_fields
    return {
        f"query({vespa_names.QUERY_TOKEN_IDS})": FLOAT.pack(query, spec.query_tokens),
        f"query({vespa_names.QUERY_TOKEN_FINGERPRINT})": float(spec.fingerprint_number),
        f"attribute({manifest.token_field})": manifest.storage.pack(document, spec.document_tokens),
        f"attribute({manifest.fingerprint_field})": float(spec.fingerprint_number),
        **{f"bm25({field})": bm25 / len(fields) for field in fields},
    }


def check_scores(
    vespa_process: VespaProcess, copy: Path, package: Package, pairs: list[TextPair]
) -> int:
    """Ids and scores of every profile with the model: ours are Vespa's; how many there were."""
    manifest, encoder, spec = package.manifest, package.encoder(), package.spec
    queries = encoder.queries_ids([pair.query for pair in pairs])
    documents = encoder.documents_ids([pair.document for pair in pairs])
    inputs = pair_inputs(spec, queries, documents, length=spec.length)
    scorer = Scorer(package.model, spec, threads=1)
    try:
        logits = scorer.run(inputs)
    finally:
        scorer.close()
    bm25 = np.linspace(0, 20, len(pairs)).round(2)
    names = spec.model_inputs
    profiles = [one for one in manifest.profiles if one.needs_tokens]
    for profile in profiles:
        rows = vespa_process.evaluate(
            copy,
            schema=manifest.schema,
            profile=profile.name,
            functions=[*names, FUNCTIONS[profile.phase]],
            bindings=[
                binding(manifest, query, document, float(first))
                for query, document, first in zip(queries, documents, bm25, strict=True)
            ],
        )
        for at, row in enumerate(rows):
            for name, theirs in zip(names, row, strict=False):
                assert np.array_equal(inputs[name][at], theirs)
            ours = profile.score(float(bm25[at]), float(logits[at]))
            assert row[-1] == pytest.approx([ours], abs=TOLERANCE)
    return len(profiles)
