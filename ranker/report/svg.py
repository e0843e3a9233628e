"""Elements of an inline SVG picture; every text and attribute is escaped here."""

from collections.abc import Iterable
from html import escape

__all__ = ["element", "picture"]


def element(name: str, *children: str, text: str = "", **attributes: str | float) -> str:
    """One element.

    Args:
        name: of the element.
        children: elements inside it, already made by this function.
        text: plain text inside it, before the children.
        attributes: a trailing underscore is dropped (`class_`), other underscores become
            hyphens; numbers are rounded to a tenth of a pixel.
    """
    given = "".join(f' {_name(key)}="{_value(value)}"' for key, value in attributes.items())
    inside = escape(text) + "".join(children)
    return f"<{name}{given}>{inside}</{name}>" if inside else f"<{name}{given}/>"


def picture(
    children: Iterable[str], *, width: float, height: float, ident: str, title: str, text: str
) -> str:
    """A whole picture that is read out as `title` and `text`.

    Args:
        children: its elements.
        width: in pixels, of the drawing; the page scales it.
        height: the same.
        ident: prefix of the ids inside it, unique in the page.
        title: what it shows.
        text: what is to be seen in it.
    """
    return element(
        "svg",
        element("title", text=title, id=f"{ident}-t"),
        element("desc", text=text, id=f"{ident}-d"),
        *children,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{ident}-t {ident}-d",
    )


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.1f}".removesuffix(".0")
