"""Tables as a paper prints them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", **{each: f"\\{each}" for each in "&%$#_{}"}}
_GREEK = {
    "λ": r"$\lambda$",
    "Δ": r"$\Delta$",
    "ν": r"$\nu$",
    "σ": r"$\sigma$",
    "π": r"$\pi$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",
    "²": "$^2$",
}


def latex(frame: pd.DataFrame, caption: str = "", label: str = "") -> str:
    """A table in LaTeX with booktabs: four significant digits, limits ``low`` and ``high`` in brackets behind the number before them.

    Args:
        frame: its index is not printed.
        caption: of the table; none for a bare tabular.
        label: to refer to it.
    """
    names = [str(name) for name in frame.columns]
    bracketed = {"low", "high"} <= set(names)
    shown = [name for name in names if not (bracketed and name in ("low", "high"))]
    rows = []
    for _, row in frame.iterrows():
        cells = {name: _cell(row[name]) for name in shown}
        if bracketed:
            estimated = names[names.index("low") - 1]
            ends = [_cell(row[name]) for name in ("low", "high")]
            cells[estimated] += "" if "--" in ends else f" [{ends[0]}, {ends[1]}]"
        rows.append(" & ".join(cells.values()) + r" \\")
    numbers = ["r" if all(_is_number(value) for value in frame[name]) else "l" for name in shown]
    head = " & ".join(_text(name) for name in shown) + r" \\"
    body = [rf"\begin{{tabular}}{{{''.join(numbers)}}}", r"\toprule", head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}"]
    if not caption and not label:
        return "\n".join(body) + "\n"
    named = [rf"\caption{{{_text(caption)}}}"] * bool(caption) + [rf"\label{{{label}}}"] * bool(label)
    return "\n".join([r"\begin{table}", r"\centering", *body, *named, r"\end{table}"]) + "\n"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    """A number with four significant digits, powers of ten as such; anything else as text."""
    if not hasattr(value, "__float__") or isinstance(value, bool):
        return _text(str(value))
    number = float(value)
    if math.isnan(number):
        return "--"
    if math.isinf(number):
        return r"$\infty$" if number > 0 else r"$-\infty$"
    text = f"{number:.4g}" if abs(number) < 1e4 or not number.is_integer() else f"{number:,.0f}"
    mantissa, power, exponent = text.partition("e")
    if power:
        return rf"${mantissa} \times 10^{{{int(exponent)}}}$"
    return f"${text}$" if text.startswith("-") else text


def _text(text: str) -> str:
    """Text with what LaTeX reads as commands escaped."""
    return "".join(_SPECIAL.get(each) or _GREEK.get(each, each) for each in text)
