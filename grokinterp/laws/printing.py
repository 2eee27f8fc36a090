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
    "Ω": r"$\Omega$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",
    "²": "$^2$",
}
NAMES = ("quantity", "estimator")
"""Columns whose cells are names of attributes."""

WORDS = {
    "auc": "AUC",
    "auc_same_time": "AUC at the same time",
    "cohens_d": "Cohen's d",
    "gain": "gain over the baseline",
    "level": "level of the intervals",
    "median_between": "bounds of the median",
    "n": "runs",
    "n_a_first": "pairs with a first",
    "n_b_first": "pairs with b first",
    "n_before": "evaluations before the event",
    "n_calibration": "runs for calibration",
    "n_censored": "runs censored",
    "n_draws": "draws",
    "n_grok": "runs that grok",
    "n_grok_never": "runs that never grok",
    "n_grokked": "runs that grok",
    "n_incomplete": "pairs left out",
    "n_inputs": "inputs",
    "n_jumps": "resamples that jump from 0 to 1",
    "n_left_out": "runs left out",
    "n_measure_never": "runs that grok without the measure",
    "n_negative": "runs with grokking first",
    "n_neither": "runs with neither",
    "n_never": "runs that never do",
    "n_never_a": "runs of a that never arrive",
    "n_never_b": "runs of b that never arrive",
    "n_open": "runs still open",
    "n_other": "other evaluations",
    "n_outside": "resamples outside the λ that were run",
    "n_pairs": "pairs",
    "n_positive": "runs with the measure first",
    "n_reached": "runs that meet the condition",
    "n_runs": "runs",
    "n_tied": "pairs tied",
    "n_ties": "runs tied",
    "n_undecided": "pairs undecided",
    "omega": "Ω",
    "p_crit": "critical p",
    "p_one_sided": "p (one-sided)",
    "p_one_sided_clustered": "p (one-sided, clustered)",
    "p_t": "p (t-test)",
    "p_trend": "p (trend)",
    "p_two_sided": "p (two-sided)",
    "p_two_sided_clustered": "p (two-sided, clustered)",
    "p_wilcoxon": "p (Wilcoxon)",
    "r2": "R²",
    "r2_of_means": "R² of the means",
    "share_that_can": "share of runs that can grok",
}
"""What a paper calls an estimate or a count, where its name with spaces would not say it."""


def words(name: str) -> str:
    """An attribute's or a column's name as a paper prints it; that of a setting, like "optimizer.weight_decay", by its last part."""
    return WORDS.get(name) or name.rpartition(".")[2].replace("_", " ")


def latex(frame: pd.DataFrame, caption: str = "", label: str = "") -> str:
    """A table in LaTeX with booktabs: names in `words`, four significant digits, ``low`` and ``high`` in brackets behind the number before them.

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
        cells = {name: _cell(words(row[name]) if name in NAMES else row[name]) for name in shown}
        if bracketed:
            estimated = names[names.index("low") - 1]
            ends = [_cell(row[name]) for name in ("low", "high")]
            cells[estimated] += "" if "--" in ends else f" [{ends[0]}, {ends[1]}]"
        rows.append(" & ".join(cells.values()) + r" \\")
    numbers = ["r" if all(_is_number(value) for value in frame[name]) else "l" for name in shown]
    head = " & ".join(_text(words(name)) for name in shown) + r" \\"
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
