"""Put the page together and write it, with its JSON beside it."""

import datetime
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.encode import legal_text
from ranker.errors import ArtifactError, UsageError, require
from ranker.files import read_json, write_text
from ranker.report import words
from ranker.report.evaluated import evaluation_view
from ranker.report.facts import bundle_view, training_view
from ranker.report.folders import Sources, model_sha256, read_folders

__all__ = ["page"]


def page(folders: Sequence[Path], out: Path) -> Path:
    """Write one self-contained HTML page about some folders, and JSON of the same name beside it.

    Args:
        folders: evaluations, checkpoints and bundles, in any mix.
        out: the HTML file.

    Returns:
        `out`.

    Raises:
        UsageError: there is nothing to report on, or `out` is not a name for a page.
        ArtifactError: a folder is none of the three, or `out` cannot be written.
        MissingExtra: jinja2 is not installed.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"expected a file name that ends in .html, got {out}")
    if out.is_dir():
        raise ArtifactError(f"cannot write the page {out}: a folder of that name exists")
    sources = read_folders(folders)
    html = _rendered(_view(sources))
    summary = json.dumps(_summary(sources), indent=2, sort_keys=True, ensure_ascii=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out.with_suffix(".json"), legal_text(summary) + "\n")
    write_text(out, legal_text(html))
    return out


def _rendered(view: dict[str, Any]) -> str:
    """The page; every value is escaped but the pictures and the style, which are made here."""
    jinja2 = require("jinja2", extra="evaluate")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    files = resources.files("ranker.report")
    template = environment.from_string(files.joinpath("page.html").read_text("utf-8"))
    html: str = template.render(style=files.joinpath("page.css").read_text("utf-8"), **view)
    return html


def _view(sources: Sources) -> dict[str, Any]:
    evaluations = [
        evaluation_view(item, training=sources.training_of(item), ident=f"evaluation-{at}")
        for at, item in enumerate(sources.evaluations, start=1)
    ]
    trainings = [
        training_view(path, training, ident=f"training-{at}")
        for at, (path, training) in enumerate(sources.trainings(), start=1)
    ]
    bundles = [
        bundle_view(item, read_json(item.path / "parity.json", what="bundle"), ident=f"bundle-{at}")
        for at, item in enumerate(sources.bundles, start=1)
    ]
    return {
        "headline": [*evaluations, *trainings, *bundles][0]["headline"],
        "evaluations": evaluations,
        "trainings": trainings,
        "bundles": bundles,
        "strangers": _strangers(sources),
        "version": __version__,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _strangers(sources: Sources) -> list[str]:
    """Evaluations whose model is none of the bundles on the page."""
    if not sources.bundles:
        return []
    known = {model_sha256(bundle) for bundle in sources.bundles}
    return [
        f"The model measured in {item.path.name} (sha256 {item.figures['model_sha256'][:13]}) "
        "is none of the bundles on this page."
        for item in sources.evaluations
        if item.figures["model_sha256"] not in known
    ]


def _summary(sources: Sources) -> dict[str, Any]:
    """The page for machines."""
    return {
        "ranker_version": __version__,
        "evaluations": [
            {
                "folder": str(item.path),
                "headline": words.headline(item),
                "recommendation": words.recommendation(item, sources.training_of(item)),
                "cautions": words.cautions(item, sources.training_of(item)),
                **item.figures,
            }
            for item in sources.evaluations
        ],
        "trainings": [
            {"folder": str(path), "headline": words.training_headline(training), **training}
            for path, training in sources.trainings()
        ],
        "bundles": [
            {
                "folder": str(item.path),
                "fingerprint": item.spec.fingerprint,
                "model_sha256": model_sha256(item),
                "blend_weight": item.blend_weight,
                "recommended_profile": item.recommended_profile,
                "parity": read_json(item.path / "parity.json", what="bundle"),
            }
            for item in sources.bundles
        ],
    }
