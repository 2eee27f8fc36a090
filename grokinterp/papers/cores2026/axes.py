"""The page on how many axes carry number in language models: one set of tables a model, and a page of all that a folder holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grokinterp.errors import GrokinterpError
from grokinterp.language.axes import NEEDLESS, SUFFICES, TURNED, NumberAxes, number_axes
from grokinterp.language.grammar import Noun, Verb
from grokinterp.language.prompts import ATTRACTORS, agreement
from grokinterp.laws.drawing import band, draw, line
from grokinterp.outputs import SVG, TEXT, check_folder, output
from grokinterp.papers.reproduction import markdown_table, svg_of
from grokinterp.plots.lazy import go

PAGE = "number-axes"
PARTS = tuple(field.name for field in fields(NumberAxes))
EDITS = {"keep": "only the core", "remove": "without the core", "flip": "core flipped"}
KINDS = {"none": "no second noun", "same": "second noun of the same number", "other": "second noun of the other number"}


def axes_of(model: Any, nouns: tuple[Noun, ...], verbs: tuple[Verb, ...], *, n: int, seed: int, n_ranks: int) -> NumberAxes:
    """The study of one model: with and without a beginning-of-text token where its tokenizer has one, told apart by the column ``bos``.

    Args:
        model: a language model with its tokenizer.
        nouns: to draw from; half of them are for testing.
        verbs: whose scores are read.
        n: prompts, a multiple of 12.
        seed: of prompts, random directions and intervals.
        n_ranks: cores from rank 1 up to this.
    """
    ways = (True, False) if getattr(model.tokenizer, "bos_token_id", None) is not None else (False,)
    found: dict[str, list[pd.DataFrame]] = {part: [] for part in PARTS}
    for bos in ways:
        prompts = agreement(model.tokenizer, n, seed, held_out_nouns=True, attractors=ATTRACTORS, nouns=nouns, verbs=verbs, bos=bos)
        study = number_axes(model, prompts, verbs, n_ranks=n_ranks, seed=seed)
        for part in PARTS:
            found[part].append(getattr(study, part).assign(bos=bos))
    return NumberAxes(**{part: pd.concat(tables, ignore_index=True) for part, tables in found.items()})


def save(name: str, found: NumberAxes, command: str, folder: Path, *, force: bool = False) -> Path:
    """Write the tables and the figure of one model, and the page of all models whose tables lie in the folder; the page's path.

    Args:
        name: of the model, in the names of its files.
        found: by `axes_of`.
        command: that made it.
        folder: made if it is not there.
        force: replace files of other kinds that have these names, too.

    Raises:
        GrokinterpError: nothing may or can be written there; or figures cannot be drawn: all else is written then.
    """
    check_folder(folder)
    found = replace(found, facts=found.facts.assign(command=command))
    for part in PARTS:
        with output(folder / f"{PAGE}-{name}-{part}.csv", TEXT, force=force) as temporary:
            getattr(found, part).to_csv(temporary, index=False, float_format="%.6g")
    page = folder / f"{PAGE}.md"
    with output(page, TEXT, force=force) as temporary:
        temporary.write_text(page_of(read(folder)))
    image = svg_of(figure(name, found), f"{PAGE}-{name}.svg")
    with output(folder / f"{PAGE}-{name}.svg", SVG, force=force) as temporary:
        temporary.write_bytes(image)
    return page


def read(folder: Path) -> dict[str, NumberAxes]:
    """What `save` has written into a folder, by model.

    Raises:
        GrokinterpError: a table without those that go with it.
    """
    found: dict[str, NumberAxes] = {}
    for path in sorted(folder.glob(f"{PAGE}-*-facts.csv")):
        name = path.name.removeprefix(f"{PAGE}-").removesuffix("-facts.csv")
        tables = {part: folder / f"{PAGE}-{name}-{part}.csv" for part in PARTS}
        if missing := [table.name for table in tables.values() if not table.exists()]:
            raise GrokinterpError(f"{folder} has {path.name} without {', '.join(missing)}; run the command in its last column again")
        found[name] = NumberAxes(**{part: pd.read_csv(table, keep_default_na=part != "written") for part, table in tables.items()})
    return found


def ways(found: NumberAxes) -> dict[bool, NumberAxes]:
    """The study with a beginning-of-text token and without, each by itself."""
    return {
        bool(bos): NumberAxes(**{part: getattr(found, part)[getattr(found, part)["bos"] == bos] for part in PARTS})
        for bos in found.facts["bos"].unique()
    }


def answer(found: NumberAxes) -> str:
    """How many axes carry number on prompts without a second noun, in a sentence or two.

    Args:
        found: of one way to begin a text.
    """
    needed, first = found.needed(), _at(found.ranks, rank=1, attractors="none").set_index("edit")
    keep, remove, flip = (float(first.loc[edit, "auc"]) for edit in EDITS)
    if needed["keep"] == needed["flip"] == 1:
        words = f"one axis suffices (AUC {keep:.3f} with nothing else) and turns number over when it is flipped ({flip:.3f})"
    else:
        words = f"one axis alone has an AUC of {keep:.3f} and leaves {flip:.3f} when it is flipped; " + _from_rank(needed, "keep", "flip")
    left = f"removed, it leaves {remove:.3f}, and {_signed(first.loc['remove', 'gap'])} of the gap between the numbers"
    return f"{words}; {left}{'' if needed['remove'] == 1 else '; ' + _from_rank(needed, 'remove')}"


def _from_rank(needed: Mapping[str, float], *edits: str) -> str:
    """From which rank on a core does what one axis does not."""
    verb = {"keep": "suffices", "remove": "is all there is", "flip": "turns number over"}
    return ", ".join(
        f"no core that was tried {verb[edit]}" if math.isnan(rank := needed[edit]) else f"a core {verb[edit]} from rank {rank:.0f} on"
        for edit in edits
    )


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def page_of(models: Mapping[str, NumberAxes]) -> str:
    """The page as Markdown."""
    apart = {(name, bos): own for name, found in models.items() for bos, own in ways(found).items()}
    ranks = max(int(own.ranks["rank"].max()) for own in apart.values())
    parts = [
        "# Is number one axis in a language model, or several?",
        "A model of English has to keep the number of the subject until the verb comes: *the keys to the cabinet are*. A paper "
        "([cores2026](cores2026.md)) says that one direction of the activations carries it. Here subspaces of more directions are tried as well.",
        "An agreement *core* of rank r is the r directions at the prompt's last word in which activations vary and on which the *margin* between "
        "plural and singular verbs depends most. The *AUC* is the probability that a plural subject has the larger margin: 1 is perfect, ½ chance, "
        "0 turned over. A *second noun*, or attractor, is one between subject and verb, like *cabinet*; *BOS* is the beginning-of-text token.",
        f"Cores of rank 1 to {ranks} are extracted from half of the nouns and measured on the other half. "
        f"A core *suffices* where keeping it alone costs at most {SUFFICES} of the AUC. It is *all there is* where removing it leaves an AUC "
        f"within {NEEDLESS} of ½. It *turns number over* where flipping it leaves at most {TURNED}. All three are judged on prompts without a second "
        "noun, and were fixed before anything was measured. Layers are chosen on the half that cores are extracted from. Intervals are 95 %, over "
        "nouns.",
        markdown_table(
            (
                "model",
                "begins with BOS",
                "verbs",
                "AUC without a second noun",
                "suffices from rank",
                "all there is from rank",
                "turns over from rank",
            ),
            [_summary(name, bos, own) for (name, bos), own in apart.items()],
        ),
        *(f"**{name}**{_way(bos)}: {answer(own)}." for (name, bos), own in apart.items()),
    ]
    for name, found in models.items():
        parts += [f"## {name}", _facts(found), f"![AUC by rank of the core]({PAGE}-{name}.svg)"]
        for bos, own in ways(found).items():
            parts += [f"### {'With' if bos else 'Without'} a beginning-of-text token", _by_rank(own), _by_layer(own), _text(own)]
        tables = ", ".join(f"[{part}]({PAGE}-{name}-{part}.csv)" for part in PARTS)
        parts.append(f"Made by `{found.facts['command'].iloc[0]}`. Tables: {tables}.")
    return "\n\n".join(parts) + "\n"


def _way(bos: bool) -> str:
    return " with a beginning-of-text token" if bos else " without a beginning-of-text token"


def _summary(name: str, bos: bool, own: NumberAxes) -> tuple[str, ...]:
    base = _at(own.ranks, rank=1, attractors="none", edit="base").iloc[0]
    needed = ["more" if math.isnan(rank) else f"{rank:.0f}" for rank in own.needed().values()]
    return (name, "yes" if bos else "no", own.facts["verbs"].iloc[0], _with_interval(base), *needed)


def _facts(found: NumberAxes) -> str:
    own = found.facts.iloc[0]
    left_out = f", {own['left_out']:.0f} left out under this tokenizer" if own["left_out"] else ""
    spelled = "one token each" if own["tokens_of_a_verb"] == 1 else f"up to {own['tokens_of_a_verb']:.0f} tokens each"
    lines = [
        f"{own['layers']:.0f} layers; {own['prompts']:,.0f} prompts of {own['nouns']:.0f} nouns{left_out}; verbs *{own['verbs']}*, {spelled}.",
        *(
            f"{'With' if bos else 'Without'} a beginning-of-text token the verbs have a mean probability of "
            + ", ".join(f"{facts[f'probability_{kind}']:.3f} ({words})" for kind, words in KINDS.items() if f"probability_{kind}" in facts)
            + f"; a line in the first core coordinate explains {facts['knob_r2']:.1%} of the margin's variance, and the core of rank 1 holds "
            f"{facts['energy_1']:.1%} of Σ σ²."
            for bos, facts in ((bool(row["bos"]), row) for _, row in found.facts.iterrows())
        ),
    ]
    return " ".join(lines)


def _by_rank(own: NumberAxes) -> str:
    """AUC at the chosen layer, a row for each rank and kind of attractor."""
    rows = []
    for (rank, kind), group in own.ranks.groupby(["rank", "attractors"], sort=False):
        if kind not in KINDS:
            continue
        by_edit = group.set_index("edit")
        cells = [f"{_with_interval(by_edit.loc[edit])}, gap × {_signed(by_edit.loc[edit, 'gap'])}" for edit in EDITS]
        random = f"{by_edit.loc['remove', 'random']:.3f} [{by_edit.loc['remove', 'random_least']:.3f}, {by_edit.loc['remove', 'random_most']:.3f}]"
        rows.append((str(rank), str(by_edit["layer"].iloc[0]), KINDS[str(kind)], _with_interval(by_edit.loc["base"]), *cells, random))
    header = ("rank", "layer", "attractor", "as it is", *EDITS.values(), "without random directions")
    note = "AUC at the chosen layer; *gap* is the mean margin of plural minus that of singular heads, over the same without an edit."
    return f"{note}\n\n{markdown_table(header, rows)}"


def _by_layer(own: NumberAxes) -> str:
    """AUC of rank 1 at every layer, without a second noun and with one of the other number."""
    first = own.layers[own.layers["rank"] == 1]
    rows = []
    for layer, group in first.groupby("layer"):
        by_kind = group.set_index("attractors")
        mark = " (chosen)" if bool(by_kind["chosen"].iloc[0]) else ""
        cells = [" / ".join(f"{by_kind.loc[kind, mode]:.3f}" for mode in ("base", *EDITS)) for kind in KINDS if kind in by_kind.index]
        rows.append((f"{layer}{mark}", *cells))
    header = ("layer", *(words for kind, words in KINDS.items() if kind in set(first["attractors"])))
    return f"Rank 1 by layer, AUC as it is / only the core / without it / flipped:\n\n{markdown_table(header, rows)}"


def _text(own: NumberAxes) -> str:
    if own.written.empty:
        return ""
    forms = [verb for verb in str(own.facts["verbs"].iloc[0]).split() if verb in own.written.columns]
    rows = [(row["clean"], row["flipped"], *(str(row[form]) for form in forms)) for _, row in own.written.iterrows()]
    cleaned = [tuple(" ".join(cell.split()).replace("|", "\\|") for cell in row) for row in rows]
    notes = sorted(set(own.written["note"]) - {""})
    header = ("clean", "core of rank 1 flipped", *(f"P({form})" for form in forms))
    untouched = int((own.written["note"] != "").sum())
    words = f"\n\nIn {untouched} of {len(rows)} texts nothing was edited, because the verbs' probability stays under the threshold." if notes else ""
    return f"Continued by the likeliest tokens:\n\n{markdown_table(header, cleaned)}{words}"


def figure(name: str, found: NumberAxes) -> go.Figure:
    """AUC by rank of the core, prompts without a second noun: kept, removed, flipped, with intervals, and random directions removed."""
    bos, own = next(iter(ways(found).items()))
    traces = []
    for i, (edit, words) in enumerate(EDITS.items()):
        rows = _at(own.ranks, attractors="none", edit=edit).sort_values("rank")
        x = rows["rank"].to_numpy()
        traces += [band(x, rows["low"].to_numpy(), rows["high"].to_numpy(), f"{words}, 95 %", i), line(x, rows["auc"].to_numpy(), words, i)]
    random = _at(own.ranks, attractors="none", edit="flip").sort_values("rank")
    traces.append(line(random["rank"].to_numpy(), random["random"].to_numpy(), "random directions flipped", 6, "dash"))
    caption = (
        f"{name}, {'with' if bos else 'without'} a beginning-of-text token; prompts without a second noun, on nouns that the core was not extracted "
        "from. 1 tells plural from singular, ½ is chance, 0 is turned over."
    )
    drawn = draw("Number by rank of its core", caption, traces, "rank of the core", "AUC")
    return drawn.update_xaxes(dtick=1).update_yaxes(range=[-0.03, 1.03])


def _at(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    rows = np.logical_and.reduce([table[column] == value for column, value in where.items()])
    return table[rows]


def _with_interval(row: pd.Series) -> str:
    return f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
