"""How results show themselves in a notebook: a small HTML table with a title, everything in it escaped, or a whole page in a frame."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True)
class Framed:
    """A page that a notebook shows in its cell, apart from the notebook's own scripts and styles.

    Attributes:
        title: of the frame, for who cannot see it.
        html: the whole page.
        height: of the frame, in pixels.
    """

    title: str
    html: str = field(repr=False)
    height: int = 720

    def _repr_html_(self) -> str:
        style = f"width: 100%; height: {self.height}px; border: 0"
        return f'<iframe srcdoc="{escape(self.html)}" title="{escape(self.title)}" sandbox="allow-scripts allow-downloads" style="{style}"></iframe>'


def html_table(title: str, rows: Iterable[Sequence[object]], header: Sequence[str] = (), paragraphs: Iterable[str] = ()) -> str:
    """A table as HTML for ``_repr_html_``, readable in light and dark notebooks because it sets no colours.

    Args:
        title: a line above the table.
        rows: the cells of each row, shown as ``str``; the first of a row is its heading.
        header: names of the columns; none for a list of facts.
        paragraphs: plain text between title and table.
    """
    head = "".join(f'<th scope="col" style="text-align: left">{escape(name)}</th>' for name in header)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    return (
        f"<div><p><strong>{escape(title)}</strong></p>"
        + "".join(f'<p style="max-width: 42rem">{escape(text)}</p>' for text in paragraphs)
        + (f"<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>" if body else "")
        + "</div>"
    )


def _cells(row: Sequence[object]) -> str:
    first, *others = row
    return f'<th scope="row" style="text-align: left">{escape(str(first))}</th>' + "".join(
        f'<td style="text-align: left">{escape(str(value))}</td>' for value in others
    )
