"""The page and its JSON, put together and written."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.files import read_json
from ranker.report import words
from ranker.report.evaluated import evaluation_view
from ranker.report.facts import bundle_view, training_view
from ranker.report.folders import Sources, model_sha256, read_folders
from ranker.report.shell import rendered, require_page_name, write_page
from ranker.report.tasks import report_of, report_of_bundle

__all__ = ["page"]


def page(folders: Sequence[Path], out: Path) -> Path:
    """Write one self-contained HTML page about some folders, and JSON next to it.

    Args:
        folders: evaluations, checkpoints and bundles, in any mix.
        out: the HTML file.

    Returns:
        `out`.

    Raises:
        UsageError: there is nothing to report on, or `out` is not the name of a page.
        ArtifactError: a folder is not one of the three, or `out` cannot be written.
        MissingExtra: jinja2 is not installed.
    """
    require_page_name(out)
    sources = read_folders(folders)
    template = resources.files("ranker.report").joinpath("page.html").read_text("utf-8")
    write_page(out, rendered(template, _view(sources)), _summary(sources))
    return out


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
        # What was measured last in the pipeline is what the page is about.
        "headline": [*evaluations, *trainings, *bundles][0]["headline"],
        "evaluations": evaluations,
        "trainings": trainings,
        "bundles": bundles,
        "strangers": _strangers(sources),
    }


def _strangers(sources: Sources) -> list[str]:
    """Name the evaluations whose model is in none of the bundles on the page."""
    if not sources.bundles:
        return []
    known = {model_sha256(bundle) for bundle in sources.bundles}
    return [
        f"The model measured in {item.path.name} (sha256 {item.figures['model_sha256'][:13]}) "
        "is not in any of the bundles on this page."
        for item in sources.evaluations
        if item.figures["model_sha256"] not in known
    ]


def _summary(sources: Sources) -> dict[str, Any]:
    """Return the page's content for JSON."""
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
            {"folder": str(path), "headline": report_of(training).headline(training), **training}
            for path, training in sources.trainings()
        ],
        "bundles": [
            {
                "folder": str(item.path),
                "fingerprint": item.spec.fingerprint,
                "model_sha256": model_sha256(item),
                **report_of_bundle(item).bundle_summary(item),
                "parity": read_json(item.path / "parity.json", what="bundle"),
            }
            for item in sources.bundles
        ],
    }
