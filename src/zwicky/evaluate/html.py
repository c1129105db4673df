"""A page of HTML in one file: no network, no script, pictures inside; it prints well. All text is escaped."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

LOOK = """
body { font: 16px/1.5 Georgia, serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; color: #111;
  background: #fff }
h1, h2, h3 { font-family: Helvetica, Arial, sans-serif; line-height: 1.2; margin: 2rem 0 .6rem }
.warning { border: 3px solid #b00; background: #fee; padding: .6rem 1rem; font-weight: bold }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .2rem .6rem; text-align: left; border-bottom: 1px solid #ccc; vertical-align: top }
th { border-bottom: 2px solid #111 }
figure { margin: 2rem 0; break-inside: avoid }
img { max-width: 100%; height: auto; display: block; margin: auto }
figcaption { font-size: .9rem; margin-top: .5rem }
@media print { body { margin: 0; max-width: none; font-size: 10pt } tr { break-inside: avoid } }
"""


class Strong(str):
    """Text of a cell that stands out."""


def heading(text: str, level: int = 2) -> str:
    """A heading of level 1 to 6."""
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind` is its class in LOOK."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells that are `Strong` are bold."""
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join("<tr>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _cell(text: str) -> str:
    return f"<strong>{escape(text)}</strong>" if isinstance(text, Strong) else escape(text)


def figure(png: bytes, title: str, text: str, width_inch: float | None = None) -> str:
    """A picture with its title, in bold, and its caption.

    Args:
        png: the file. width_inch: of the picture on paper and, at 1.5 times that, on a screen.
    """
    data = base64.b64encode(png).decode()
    size = f' style="width: {1.5 * width_inch:.2f}in"' if width_inch else ""
    picture = f'<img src="data:image/png;base64,{data}" alt="{escape(title)}"{size}>'
    return (
        f"<figure>\n{picture}\n<figcaption><strong>{escape(title)}</strong> {escape(text)}</figcaption>\n</figure>"
    )


def _class(kind: str) -> str:
    return f' class="{escape(kind)}"' if kind else ""


def page(title: str, blocks: Iterable[str], warnings: Sequence[str] = ()) -> str:
    """The whole page; warnings, if any, are in its first line, in the title of the window and on top of the page."""
    first = [f"WARNING: {' '.join(warnings)}"] if warnings else []
    head = f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{escape(" ".join([*first, title]))}'
    look = f'</title>\n<meta name="viewport" content="width=device-width">\n<style>{LOOK}</style></head>'
    top = [paragraph(text, "warning") for text in first]
    return "\n".join([f"{head}{look}", "<body>", *top, heading(title, 1), *blocks, "</body></html>"]) + "\n"
