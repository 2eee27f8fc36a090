"""One self-contained page for a dataset of measures: it opens offline, on any screen, and asks no other host for anything."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from grokinterp import __version__
from grokinterp.measures import MEASURES, Measure, Number
from grokinterp.outputs import PAGE, output
from grokinterp.reports.figures import figures as figures_of
from grokinterp.reports.words import headline, missing

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go
    import xarray as xr


def to_html(
    dataset: xr.Dataset,
    path: str | Path,
    *,
    figures: Mapping[str, go.Figure] | None = None,
    measures: Mapping[str, Measure] = MEASURES,
    tables: Sequence[tuple[str, str, pd.DataFrame]] = (),
    force: bool = False,
) -> Path:
    """Write a dataset of measures as one HTML file: summary, headline numbers, figures with captions, configuration and provenance.

    Args:
        dataset: what an analysis gives. The attributes ``title`` and ``summary`` (paragraphs split by blank lines) are plain text;
            ``phases``, ``config``, ``provenance`` and ``failures`` are JSON; each may be absent.
        path: the file, replaced whole if it is such a page already; its folder is made.
        figures: by name, in this order; None for those that the measures bring.
        measures: whose headline rows and figures are shown.
        tables: more tables, each with a title and a caption.
        force: replace a file of another kind, too.

    Returns:
        The path written.

    Raises:
        GrokinterpError: nothing may or can be written there, see `outputs.check_output`.
    """
    path = Path(path)
    with output(path, PAGE, force=force) as temporary:
        drawn = figures_of(dataset, measures) if figures is None else figures
        temporary.write_bytes(
            _page(dataset, drawn, headline(dataset, measures), tables).encode("utf-8", "backslashreplace")
        )  # a path need not be text
    return path


def _page(dataset: xr.Dataset, drawn: Mapping[str, go.Figure], numbers: Sequence[Number], tables: Sequence[tuple[str, str, pd.DataFrame]]) -> str:
    from plotly.offline import get_plotlyjs

    template = Template(resources.files("grokinterp.reports").joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(str(dataset.attrs.get("title") or "Report")),
        summary=_paragraphs(str(dataset.attrs.get("summary", ""))),
        notice=_notice(dataset),
        headline="\n".join([_headline(numbers), *(_table(*table) for table in tables)]),
        figures="\n".join(_figure(name, figure) for name, figure in drawn.items()),
        details=_details(dataset),
        version=escape(__version__),
        plotly=get_plotlyjs(),
        data=_script_json({name: _spec(figure) for name, figure in drawn.items()}),
    )


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{escape(' '.join(part.split()))}</p>" for part in text.split("\n\n") if part.strip())


# --- numbers ---------------------------------------------------------------------------------------------------------------------


def _headline(numbers: Sequence[Number]) -> str:
    """The table of numbers at the last step."""
    if not numbers:
        return ""
    body = "\n".join(
        f'<tr><th scope="row">{escape(number.quantity)}<small>{escape(number.meaning)}</small></th>'
        f"<td>{_powers_of_ten(escape(number.value))}</td></tr>"
        for number in numbers
    )
    return (
        '<section aria-labelledby="numbers"><h2 id="numbers">Headline numbers</h2>\n'
        f"<table><caption>At the last step; losses in nats.</caption><tbody>\n{body}\n</tbody></table></section>"
    )


def _table(title: str, caption: str, frame: pd.DataFrame) -> str:
    """A table with a row a run."""
    head = "".join(f'<th scope="col">{escape(str(name))}</th>' for name in (frame.index.name or "", *frame.columns))
    rows = [
        f'<tr><th scope="row">{escape(str(label))}</th>{"".join(f"<td>{escape(_cell(value))}</td>" for value in row)}</tr>'
        for label, row in zip(frame.index, frame.to_numpy(dtype=object).tolist(), strict=True)
    ]
    name = re.sub(r"\W+", "-", title.lower())
    return (
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(title)}</h2>\n'
        f'<div class="wide" tabindex="0"><table><caption>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(rows)}\n</tbody></table></div></section>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "never" if math.isnan(value) else f"{value:,.0f}" if value.is_integer() and abs(value) >= 1000 else f"{value:.6g}"
    return "none" if value is None else str(value)


def _powers_of_ten(text: str) -> str:
    """1.5e-09 as 1.5 × 10⁻⁹."""
    return re.sub(r"e([+-])0*(\d+)\b", lambda match: f"&nbsp;×&nbsp;10<sup>{'−' if match[1] == '-' else ''}{match[2]}</sup>", text)


# --- figures ---------------------------------------------------------------------------------------------------------------------


def _figure(name: str, figure: go.Figure) -> str:
    """A figure's heading, panel, caption and download button."""
    title = str(figure.layout.title.text or name)
    caption = str(figure.layout.meta["caption"]) if figure.layout.meta else ""  # a figure of somebody's own may have none
    parts = ", ".join(str(trace.name) for trace in figure.data if trace.name)
    label = f"{title}: {figure.layout.yaxis.title.text} by {figure.layout.xaxis.title.text}" + (f", for {parts}." if parts else ".")
    shape = "plot square" if figure.layout.yaxis.scaleanchor else "plot"
    return (
        f'<figure aria-labelledby="title-{escape(name)}">\n<h2 id="title-{escape(name)}">{escape(title)}</h2>\n'
        f'<div class="{shape}" data-figure="{escape(name)}" tabindex="0" role="img" aria-label="{escape(label)}"></div>\n'
        f'<p class="value" aria-live="polite" data-hint="Arrow keys go from value to value."></p>\n'
        f"<figcaption>{escape(caption)}</figcaption>\n"
        f'<button type="button" data-download="{escape(name)}" aria-describedby="title-{escape(name)}">Download data (CSV)</button>\n</figure>'
    )


def _spec(figure: go.Figure) -> dict[str, Any]:
    """A figure as plain JSON, title and height left to the page, which fits them to the screen."""
    layout = figure.layout.to_plotly_json()
    for key in ("title", "height", "template", "meta"):
        layout.pop(key, None)
    # Traces one by one: a whole figure would pack its arrays as base64, which the page's CSV could not read.
    return {"data": [trace.to_plotly_json() for trace in figure.data], "layout": layout}


def _script_json(value: Any) -> str:
    """JSON that no browser can take for the end of the script that it stands in."""
    from plotly.utils import PlotlyJSONEncoder

    text = json.dumps(value, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


# --- what stands behind ----------------------------------------------------------------------------------------------------------


def _attribute(dataset: xr.Dataset, name: str) -> Any:
    """An attribute that holds JSON, decoded; the text itself where it does not, None where it is absent."""
    text = dataset.attrs.get(name)
    try:
        return None if text is None else json.loads(str(text))
    except json.JSONDecodeError:
        return str(text)


def _notice(dataset: xr.Dataset) -> str:
    count = len(missing(dataset))
    if not count:
        return ""
    what = "One result is" if count == 1 else f"{count} results are"
    return f'<p class="note">{what} missing from this page, in whole or in part; <a href="#failures">the reasons stand below</a>.</p>'


def _details(dataset: xr.Dataset) -> str:
    parts = []
    if reasons := missing(dataset):
        rows = "\n".join(f'<tr><th scope="row">{escape(what)}</th><td>{escape(reason)}</td></tr>' for what, reason in reasons.items())
        parts.append(f'<details id="failures" open><summary>Missing results and why</summary><table><tbody>\n{rows}\n</tbody></table></details>')
    for name, label in (("config", "Configuration"), ("provenance", "Provenance")):
        value = _attribute(dataset, name)
        if value:
            text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
            parts.append(f'<details><summary>{label}</summary><pre tabindex="0">{escape(text)}</pre></details>')
    return "\n".join(parts) or "<p>The dataset says nothing about its configuration or its provenance.</p>"
