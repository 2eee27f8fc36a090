"""One self-contained page for a dataset of measures: it opens offline, on any screen, and asks no other host for anything.

First the sentences, then the pictures, then the numbers: a few that one quotes, and all others folded away.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import pandas as pd
import xarray as xr

from grokinterp import __version__
from grokinterp.measures import MEASURES, Measure, Number
from grokinterp.outputs import PAGE, output
from grokinterp.plots.lazy import go
from grokinterp.reports.encoding import Panels, encode
from grokinterp.reports.figures import figures as figures_of
from grokinterp.reports.words import headline, missing


def to_html(
    dataset: xr.Dataset,
    path: str | Path,
    *,
    figures: Mapping[str, go.Figure | Panels] | None = None,
    colours: Mapping[str, str] | None = None,
    measures: Mapping[str, Measure] = MEASURES,
    tables: Sequence[tuple[str, str, pd.DataFrame]] = (),
    force: bool = False,
) -> Path:
    """Write a dataset of measures as one HTML file: summary, headline numbers, figures with captions, configuration and provenance.

    Args:
        dataset: what an analysis gives. The attributes ``title`` and ``summary`` (paragraphs split by blank lines) are plain text;
            ``phases``, ``config``, ``provenance`` and ``failures`` are JSON; each may be absent.
        path: the file, replaced whole if it is such a page already; its folder is made.
        figures: by name, in this order; None for those that the measures bring. One that is shown run by run is a mapping, by the run's label.
        colours: of runs, by label: the page gets switches for them.
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
        page = _page(dataset, drawn, headline(dataset, measures), tables, colours or {})
        temporary.write_bytes(page.encode("utf-8", "backslashreplace"))  # a path need not be text
    return path


def _page(
    dataset: xr.Dataset,
    drawn: Mapping[str, go.Figure | Panels],
    numbers: Sequence[Number],
    tables: Sequence[tuple[str, str, pd.DataFrame]],
    colours: Mapping[str, str],
) -> str:
    template = Template(resources.files("grokinterp.reports").joinpath("page.html").read_text(encoding="utf-8"))
    sections = "\n".join([_headline(numbers), *(_table(*table) for table in tables)])
    return template.substitute(
        title=escape(str(dataset.attrs.get("title") or "Report")),
        summary=_paragraphs(str(dataset.attrs.get("summary", ""))),
        notice=_notice(dataset),
        bar=_bar(drawn, re.findall(r'<h2 id="([^"]+)">([^<]+)</h2>', sections), colours),
        figures="\n".join(_figure(name, figure) for name, figure in drawn.items()),
        numbers=sections,
        details=_details(dataset),
        version=escape(__version__),
        plotly=_plotly() if drawn else "",
        data=encode(drawn),
    )


def _plotly() -> str:
    """Plotly, packed: a third of its size."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _bar(drawn: Mapping[str, go.Figure | Panels], sections: Sequence[tuple[str, str]], colours: Mapping[str, str]) -> str:
    """The bar that stays in sight: a menu of all that is on the page, and switches for runs."""
    links = [(f"title-{escape(name)}", escape(_title(name, figure))) for name, figure in drawn.items()]
    links += [*sections, ("behind", "Behind these results")]
    menu = "".join(f'<li><a href="#{anchor}">{text}</a></li>' for anchor, text in links)
    jump = f'<nav aria-label="On this page"><details><summary>On this page</summary><ul>{menu}</ul></details></nav>'
    switches = "".join(
        f'<label><input type="checkbox" checked data-run="{escape(run)}"><i style="background:{colour}"></i>{escape(run)}</label>'
        for run, colour in colours.items()
    )
    opened = " open" if len(colours) <= 12 else ""  # more would fill a screen
    runs = f'<details class="runs"{opened}><summary>Runs</summary><fieldset><legend>Runs that are shown</legend>{switches}</fieldset></details>'
    return f'<div class="bar">{jump}{runs if colours else ""}</div>'


def _paragraphs(text: str) -> str:
    return "\n".join(f"<p>{escape(' '.join(part.split()))}</p>" for part in text.split("\n\n") if part.strip())


# --- numbers ---------------------------------------------------------------------------------------------------------------------


QUOTED = 8  # rows that are shown at once


def _headline(numbers: Sequence[Number]) -> str:
    """The numbers at the last step: those that one quotes, and the rest folded away."""
    if not numbers:
        return ""
    first = [number for number in numbers if not number.aside][:QUOTED]
    rest = [number for number in numbers if number not in first]
    folded = f"<details><summary>{len(rest)} more numbers</summary><table><tbody>\n{_rows(rest)}\n</tbody></table></details>" if rest else ""
    return (
        '<section aria-labelledby="numbers"><h2 id="numbers">Headline numbers</h2>\n'
        f"<table><caption>At the last step; losses in nats.</caption><tbody>\n{_rows(first)}\n</tbody></table>{folded}</section>"
    )


def _rows(numbers: Sequence[Number]) -> str:
    return "\n".join(
        f'<tr><th scope="row">{escape(number.quantity)}<small>{escape(number.meaning)}</small></th>'
        f"<td>{_powers_of_ten(escape(number.value))}</td></tr>"
        for number in numbers
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


def _title(name: str, figure: go.Figure | Panels) -> str:
    own = next(iter(figure.values())) if isinstance(figure, Mapping) else figure
    return str(own.layout.title.text or name)


def _figure(name: str, figure: go.Figure | Panels) -> str:
    """A figure's heading, panel, slider, caption and download button."""
    runs = [run for run, own in figure.items() if own.data] if isinstance(figure, Mapping) else []
    first = figure[runs[0]] if isinstance(figure, Mapping) else figure
    title, layout = _title(name, first), first.layout
    caption = str(layout.meta["caption"]) if layout.meta else ""  # a user's figure may have none
    parts = ", ".join(dict.fromkeys(str(trace.name) for trace in first.data if trace.name))
    label = f"{title}: {layout.yaxis.title.text or 'a row each'} by {layout.xaxis.title.text}" + (f", for {parts}." if parts else ".")
    aspect = (layout.meta or {}).get("aspect")
    shape = 'class="plot square"' if layout.yaxis.scaleanchor and aspect is None else 'class="plot"'
    shape += f' style="height:auto;aspect-ratio:{float(aspect):g}"' if aspect is not None else ""
    height = (layout.meta or {}).get("height")  # of a figure with a row a run
    shape += f' style="height:{float(height):g}px"' if height is not None else ""
    chooser = "".join(f"<option>{escape(run)}</option>" for run in runs)
    return (
        f'<figure aria-labelledby="title-{escape(name)}">\n<h2 id="title-{escape(name)}">{escape(title)}</h2>\n'
        + (f'<label class="chooser">Run <select data-for="{escape(name)}">{chooser}</select></label>\n' if chooser else "")
        + f'<div {shape} data-figure="{escape(name)}" tabindex="0" role="img" aria-label="{escape(label)}"></div>\n'
        f'<p class="value" aria-live="polite" data-hint="Arrow keys go from value to value."></p>\n'
        + (_slider(name) if any(own.frames for own in (figure.values() if isinstance(figure, Mapping) else [figure])) else "")
        + f"<figcaption>{escape(caption)}</figcaption>\n"
        f'<button type="button" data-download="{escape(name)}" aria-describedby="title-{escape(name)}">Download data (CSV)</button>\n</figure>'
    )


def _slider(name: str) -> str:
    """The slider over steps, which the script sets to the last."""
    at = escape(name)
    return (
        f'<div class="time"><button type="button" data-play="{at}" aria-describedby="title-{at}">Play</button>'
        f'<input type="range" min="0" value="0" data-steps="{at}" aria-label="Training step"><output></output></div>\n'
    )


# --- what stands behind ----------------------------------------------------------------------------------------------------------


def _attribute(dataset: xr.Dataset, name: str) -> Any:
    """An attribute that holds JSON, decoded; the text itself where it does not, None where it is absent."""
    text = dataset.attrs.get(name)
    try:
        return None if text is None else json.loads(str(text))
    except json.JSONDecodeError:
        return str(text)


def _notice(dataset: xr.Dataset) -> str:
    if not missing(dataset):
        return ""
    return '<p class="note">Some results are missing from this page, in whole or in part; <a href="#failures">the reasons stand below</a>.</p>'


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
