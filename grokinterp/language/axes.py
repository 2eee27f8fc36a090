"""Is number one axis in a language model, or several? Agreement cores of rising rank, on nouns that they were not extracted from.

Prompts have no second noun, one of the head's number, or one of the other number, and the three are counted apart: with an attractor of the other
number a model that leans on the nearest noun is misled, and what is left without the core follows the attractor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from grokinterp.ace.core import Core
from grokinterp.errors import GrokinterpError
from grokinterp.language.agreement import agreement_cores, auc, check_both_numbers, coordinates, knob, margins, verb_probabilities, verb_scores
from grokinterp.language.generation import generate
from grokinterp.language.grammar import Verb
from grokinterp.language.prompts import ATTRACTORS, Prompts
from grokinterp.language.sweep import MODES, edits_of, random_core, with_base
from grokinterp.models.adapter import Adapter

RANKS = 5
N_RANDOM = 10
N_RESAMPLES = 500
ALL = "all"
_WRITTEN = 12  # tokens of each text

SUFFICES, NEEDLESS, TURNED = 0.02, 0.1, 0.1
"""Fixed before measuring (chosen here): a core suffices where keeping it costs at most 0.02 of AUC, is all there is where removing it leaves an AUC
within 0.1 of ½, and turns number over where flipping it leaves at most 0.1; all on prompts without a second noun."""


@dataclass(frozen=True, eq=False)
class NumberAxes:
    """What cores of rank 1, 2, … do in one model; everything on the test half, at layers chosen on the other.

    Attributes:
        layers: AUC of base, keep, remove and flip for every rank, layer and kind of attractor; ``chosen`` marks the layer with the lowest AUC of flip
            on the extraction half.
        ranks: at the chosen layer, for every rank, kind of attractor and edit: ``auc`` with ``low`` and ``high``, its 95 % interval over nouns;
            ``gap``, the mean margin of plural minus that of singular heads over the same without an edit; ``random``, ``random_least`` and
            ``random_most``, mean and range of the AUC under random directions of the same rank.
        facts: one row: prompts, nouns, the verbs' mean probability by kind of attractor, R² of the knob and spectral gap of the core of rank 1.
        written: continuations of some test prompts by the likeliest tokens, clean and with the core of rank 1 flipped.
    """

    layers: pd.DataFrame = field(repr=False)
    ranks: pd.DataFrame = field(repr=False)
    facts: pd.DataFrame = field(repr=False)
    written: pd.DataFrame = field(repr=False)

    def needed(self) -> dict[str, float]:
        """The least rank that suffices, that is all there is, and that turns number over; NaN where none of those tried does."""
        alone = self.ranks[self.ranks["attractors"] == "none"].pivot(index="rank", columns="edit", values="auc")
        found = {
            "keep": alone["keep"] >= alone["base"] - SUFFICES,
            "remove": (alone["remove"] - 0.5).abs() <= NEEDLESS,
            "flip": alone["flip"] <= TURNED,
        }
        return {edit: float(holds.index[holds].min()) if holds.any() else float("nan") for edit, holds in found.items()}


def number_axes(
    model: Any,
    prompts: Prompts,
    verbs: Sequence[Verb],
    *,
    n_ranks: int = RANKS,
    n_random: int = N_RANDOM,
    n_resamples: int = N_RESAMPLES,
    n_written: int = 3,
    seed: int = 0,
) -> NumberAxes:
    """Extract cores at every layer, keep, remove and flip them at every rank, and compare with random directions.

    Args:
        model: a HookedTransformer or TransformerBridge with causal attention and its tokenizer.
        prompts: of `agreement`, with held-out nouns and more than one kind of attractor.
        verbs: whose number is flipped in what is written.
        n_ranks: from 1 up to this.
        n_random: random cores of each rank.
        n_resamples: of the head nouns, for the intervals.
        n_written: prompts of each number and kind of attractor that are continued.
        seed: of random directions and resampling.

    Raises:
        GrokinterpError: prompts whose attractors are not known, or of one number only in a half.
    """
    if len(prompts.attractors) != len(prompts):
        raise GrokinterpError(f"the prompts {prompts.name!r} do not say which attractors they have; make them with agreement(attractors=…)")
    halves = {"extraction": prompts.half("extraction"), "test": prompts.half("test")}
    for name, half in halves.items():
        check_both_numbers(half, name)
    test = halves["test"]
    cores = list(agreement_cores(model, prompts, rank=n_ranks).values())
    layer_of = {core.hook: Adapter(model).residual_hooks().index(core.hook) for core in cores}
    edits = [edit for rank in range(1, n_ranks + 1) for core in cores for edit in edits_of(core.with_rank(rank))]
    margin = {name: with_base(margins(half, verb_scores(model, half, edits)), n_ranks, len(cores)) for name, half in halves.items()}
    chosen = auc(margin["extraction"], halves["extraction"].plural)[..., MODES.index("flip")].argmin(1)
    at_best = [cores[best].with_rank(rank) for rank, best in enumerate(chosen, start=1)]
    generator = torch.Generator().manual_seed(seed)
    controls = [[random_core(core, generator) for _ in range(n_random)] for core in at_best]
    random_edits = [edit for same in controls for core in same for edit in edits_of(core)]
    random = with_base(margins(test, verb_scores(model, test, random_edits)), n_ranks, n_random)
    kinds = {kind: examples for kind, examples in _kinds(test).items() if len(examples)}
    best = margin["test"][torch.arange(n_ranks), torch.from_numpy(chosen)]
    return NumberAxes(
        layers=_layers(margin["test"], test, kinds, [layer_of[core.hook] for core in cores], chosen),
        ranks=_ranks(best, random, test, kinds, [layer_of[core.hook] for core in at_best], np.random.default_rng(seed), n_resamples),
        facts=_facts(model, prompts, test, kinds, at_best[0], margin["test"][0, int(chosen[0]), 0]),
        written=_written(model, test, at_best[0], verbs, n_written),
    )


def _kinds(test: Prompts) -> dict[str, Int[Tensor, "chosen"]]:
    """Which prompts have which attractor, and all of them."""
    own = [torch.tensor([i for i, other in enumerate(test.attractors) if other == kind], dtype=torch.int64) for kind in ATTRACTORS]
    return dict(zip((ALL, *ATTRACTORS), (torch.arange(len(test)), *own), strict=True))


def _layers(margin: Tensor, test: Prompts, kinds: Mapping[str, Tensor], layers: Sequence[int], chosen: np.ndarray) -> pd.DataFrame:
    rows = []
    for kind, examples in kinds.items():
        values = auc(margin[..., examples], test.plural[examples])
        for rank, layer in np.ndindex(*values.shape[:2]):
            named = dict(zip(MODES, values[rank, layer], strict=True))
            rows.append({"rank": rank + 1, "layer": layers[layer], "attractors": kind, **named, "chosen": bool(chosen[rank] == layer)})
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _ranks(
    margin: Tensor,
    random: Tensor,
    test: Prompts,
    kinds: Mapping[str, Tensor],
    layers: Sequence[int],
    rng: np.random.Generator,
    n_resamples: int,
) -> pd.DataFrame:
    rows = []
    for kind, examples in kinds.items():
        plural, own = test.plural[examples], margin[..., examples]
        values, control = auc(own, plural), auc(random[..., examples], plural)
        low, high = _interval(own, plural, [test.heads[int(i)] for i in examples], rng, n_resamples)
        gap = (own[..., plural].mean(-1) - own[..., ~plural].mean(-1)).numpy()
        for rank, mode in np.ndindex(*values.shape):
            drawn = control[rank, :, mode]
            rows.append(
                {
                    "rank": rank + 1,
                    "layer": layers[rank],
                    "attractors": kind,
                    "edit": MODES[mode],
                    "auc": values[rank, mode],
                    "low": low[rank, mode],
                    "high": high[rank, mode],
                    "gap": gap[rank, mode] / gap[rank, 0],
                    "random": drawn.mean(),
                    "random_least": drawn.min(),
                    "random_most": drawn.max(),
                }
            )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table


def _interval(margin: Tensor, plural: Tensor, heads: Sequence[str], rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """95 % intervals of AUCs by drawing head nouns with replacement, each with all its prompts."""
    of_noun = [np.flatnonzero(np.array(heads) == noun) for noun in sorted(set(heads))]
    found: list[np.ndarray] = []
    while len(found) < n:
        drawn = np.concatenate([of_noun[int(i)] for i in rng.integers(len(of_noun), size=len(of_noun))])
        if 0 < int(plural[drawn].sum()) < len(drawn):  # else there is no AUC
            found.append(auc(margin[..., drawn], plural[drawn]))
    low, high = np.quantile(found, [0.025, 0.975], axis=0)
    return low, high


def _facts(model: Any, prompts: Prompts, test: Prompts, kinds: Mapping[str, Tensor], core: Core, base: Tensor) -> pd.DataFrame:
    mass = verb_probabilities(model, test)[0].sum(-1)
    z = coordinates(model, test, core)[:, 0]
    energy = core.spectrum.square()
    facts = {
        "prompts": len(prompts),
        "nouns": len(set(prompts.heads)),
        "left_out": len(prompts.dropped),
        "verbs": " ".join(word.strip() for word in prompts.words),
        "tokens_of_a_verb": max(map(len, prompts.forms.tokens)),
        "bos": prompts.bos,
        "layers": Adapter(model).n_layers,
        **{f"probability_{kind}": float(mass[examples].mean()) for kind, examples in kinds.items()},
        "knob_r2": knob(z, base).r_squared,
        **{f"energy_{rank}": float(energy[:rank].sum() / energy.sum()) for rank in range(1, RANKS + 1)},
    }
    table: pd.DataFrame = pd.DataFrame([facts])
    return table


def _written(model: Any, test: Prompts, core: Core, verbs: Sequence[Verb], n: int) -> pd.DataFrame:
    rows = []
    for kind in ATTRACTORS:
        for plural in (False, True):
            fitting = [i for i, own in enumerate(test.attractors) if own == kind and bool(test.plural[i]) == plural]
            for i in fitting[:n]:
                text = generate(model, test.texts[i], core, n_tokens=_WRITTEN, temperature=0.0, verbs=verbs, bos=test.bos)
                changes = {form: f"{clean:.3f} → {edited:.3f}" for form, (clean, edited) in text.probabilities.items()}
                edits = {"edited_tokens": sum(s != 0 for s in text.strengths), "note": text.note}
                rows.append(
                    {"attractors": kind, "number": ("singular", "plural")[plural], "clean": text.clean, "flipped": text.edited, **changes, **edits}
                )
    table: pd.DataFrame = pd.DataFrame(rows)
    return table
