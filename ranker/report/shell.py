"""The frame that all pages share: head, style and foot; pages are rendered and written here."""

import datetime
import json
from importlib import resources
from pathlib import Path
from typing import Any

from ranker import __version__
from ranker.contract.encode import sanitize_text
from ranker.errors import ArtifactError, UsageError, require
from ranker.files import write_text

__all__ = ["rendered", "require_page_name", "write_page"]


def require_page_name(out: Path) -> None:
    """Check that a page can be written, before the work for it is done.

    Raises:
        UsageError: `out` is not the name of a page.
        ArtifactError: a folder has that name, or another file the name of the page's JSON.
    """
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"expected a file name that ends in .html, got {out}")
    if out.is_dir():
        raise ArtifactError(f"cannot write the page {out}: a folder of that name exists")
    summary = out.with_suffix(".json")
    if summary.exists() and not out.exists():  # JSON without its page is another file
        raise ArtifactError(
            f"the JSON of the page {out} would replace {summary}; give the page another name"
        )


def rendered(template: str, view: dict[str, Any]) -> str:
    """Render a page; every value is escaped except pictures and style, which are our own.

    Args:
        template: Jinja source that extends `shell.html`; `parts.html` has macros for it.
        view: values for the template; `headline` is the page's title.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    jinja2 = require("jinja2", extra="evaluate")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # a misspelled name is an error, not an empty cell
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html: str = environment.from_string(template).render(
        style=_source("page.css"),
        version=__version__,
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        **view,
    )
    return html


def write_page(out: Path, html: str, summary: dict[str, Any]) -> None:
    """Write a page, and JSON of the same name next to it.

    Raises:
        ArtifactError: one of them cannot be written.
    """
    text = json.dumps(summary, indent=2, sort_keys=True, ensure_ascii=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    # A document's control characters and lone surrogates are valid in neither file.
    write_text(out.with_suffix(".json"), sanitize_text(text) + "\n")
    write_text(out, sanitize_text(html))


def _source(name: str) -> str:
    return resources.files("ranker.report").joinpath(name).read_text("utf-8")
