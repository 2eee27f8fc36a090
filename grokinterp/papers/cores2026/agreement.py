"""The agreement section of arXiv 2602.22600: cores of several language models on the same prompts, side by side.

`tiny_agreement` trains the models itself; `gpt2_agreement` reads the published ones. `measure_tiny` and `measure_gpt2` read the paper's numbers
off what they find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from grokinterp import ace, plots
from grokinterp.errors import GrokinterpError
from grokinterp.language.grammar import FRAMES, Sentence, parse, sentences_of
from grokinterp.language.prompts import agreement
from grokinterp.language.tiny import TinyConfig, tiny
from grokinterp.models.adapter import Adapter
from grokinterp.models.pretrained import load_model
from grokinterp.papers.claims import Measurement
from grokinterp.papers.cores2026.claims import GPT2_PAIRS
from grokinterp.papers.tables import RUN, Tables
from grokinterp.plots.lazy import go
from grokinterp.tasks import Prompts

EXAMPLE = "The key next to the cabinets"
SIZES = ("gpt2", "gpt2-medium", "gpt2-large")
LOCAL = Path("models")  # where weights are looked for before the hub is asked
N_RANDOM = 10
PER_FRAME = 400  # prompts
N_TOKENS, TEMPERATURE = 20, 0.5  # of what is written (chosen here: at a temperature of 1 a model of this size slips now and then, edited or not)
TABLES = {"layers": (0,), "correlations": (0,), "example": (0, 1), "held-out": (0, 1), "written": (0,)}  # with their index columns


@dataclass(frozen=True, eq=False)
class AgreementStudy:
    """What the cores of several models do on the same prompts; everything on the test half, at the layer chosen on the other.

    Attributes:
        layers: by model the chosen layer of how many, AUC of base, keep, remove and flip, the lowest AUC under random flips and removals, the
            same of minimal pairs (base, flip), spectral gap, R² of the knob, p of the flip.
        correlations: Spearman, Pearson and canonical correlation of core coordinates, a row for each pair of models.
        example: probabilities of the verbs behind one prompt, clean and flipped, by model.
        held_out: by model and held-out frame what `across_frames` finds; empty where it was not asked for.
        written: by model, how many generated first sentences parse, agree, and disagree under the flip; empty where no grammar can tell.
        figures: AUC by layer and knob for each model, correlations across models; none where a study was read from tables.
    """

    layers: pd.DataFrame
    correlations: pd.DataFrame
    example: pd.DataFrame = field(default_factory=pd.DataFrame)
    held_out: pd.DataFrame = field(default_factory=pd.DataFrame)
    written: pd.DataFrame = field(default_factory=pd.DataFrame)
    figures: Mapping[str, go.Figure] = field(default_factory=dict)

    @property
    def p_value(self) -> float:
        """Of the flip: Fisher's combination over models."""
        return ace.combined_p_value(self.layers["flip_p_value"].to_list())

    def tables(self, name: str) -> dict[str, pd.DataFrame]:
        """The tables of a study of some name, each row with that name in place of a digest, since no model is a run folder."""
        parts = {part: getattr(self, part.replace("-", "_")) for part in TABLES}
        return {f"{name}-{part}": table.assign(**{RUN: name}) for part, table in parts.items() if len(table)}

    @classmethod
    def from_tables(cls, name: str, tables: Tables) -> AgreementStudy | None:
        """A study as `tables` gave it; None where the tables hold none."""
        parts = {part.replace("-", "_"): tables[f"{name}-{part}"].drop(columns=RUN) for part in TABLES if f"{name}-{part}" in tables}
        return cls(**parts) if "layers" in parts else None


def tiny_agreement(seeds: Sequence[int] = (0, 1, 2), *, n: int = 1_200, n_written: int = 100, config: TinyConfig | None = None) -> AgreementStudy:
    """The study on models trained here, one for each seed, with different nouns to extract from and to test on; and frames held out in turn.

    Args:
        seeds: of the models, trained when they are not in the cache, a minute each.
        n: prompts, half of them to extract from.
        n_written: test prompts that each model continues, clean and flipped.
        config: of the models but for the seed; None for the default.

    Raises:
        GrokinterpError: fewer than two seeds.
    """
    models = {f"seed {seed}": tiny(replace(config or TinyConfig(), seed=seed)) for seed in seeds}
    tokenizer = next(iter(models.values())).tokenizer
    found = study(models, agreement(tokenizer, n, held_out_nouns=True), n_written=n_written)
    return replace(found, held_out=pd.concat({name: across_frames(model) for name, model in models.items()}, names=["model", "frame"]))


def gpt2_agreement(folder: Path = LOCAL, *, n: int = 1_200) -> AgreementStudy:
    """The study on published GPT-2s with the paper's design: all frames and nouns in both halves.

    Args:
        folder: where ``gpt2``, ``gpt2-medium`` and ``gpt2-large`` may lie, each a folder that `load_model` takes; what is not there is looked
            for in the Hugging Face cache, then on the hub.
        n: prompts (paper: 1,200).

    Raises:
        GrokinterpError: a model that is neither here nor to be had.
    """
    models = {name: load_model(folder / name if (folder / name).is_dir() else name) for name in SIZES}
    return study(models, agreement(next(iter(models.values())).tokenizer, n))


def study(models: Mapping[str, Any], prompts: Prompts, *, n_written: int = 0) -> AgreementStudy:
    """Sweep, choose, compare and write.

    Args:
        models: by name, at least two that read the same tokens.
        prompts: with both halves.
        n_written: test prompts to continue, if the models write the grammar's language.

    Raises:
        GrokinterpError: fewer than two models.
    """
    if len(models) < 2:
        raise GrokinterpError(f"coordinates are correlated across models, so give at least 2; got {len(models)}")
    sweeps = {name: ace.agreement_sweep(model, prompts) for name, model in models.items()}
    cores = {name: ace.extract(models[name], prompts, str(at_best(sweep)["hook"].item()), rank=1) for name, sweep in sweeps.items()}
    shared = ace.coordinate_correlations({name: torch.from_numpy(sweep["core_coordinate"].to_numpy())[:, None] for name, sweep in sweeps.items()})
    drawn = {"by-layer": plots.agreement_by_layer, "knob": plots.agreement_knob}
    figures = {f"{name.replace(' ', '-')}-{part}": draw(sweep) for name, sweep in sweeps.items() for part, draw in drawn.items()}
    found = AgreementStudy(
        layers=pd.DataFrame({name: _row(sweep) for name, sweep in sweeps.items()}).T,
        correlations=_pairs(shared),
        example=pd.concat({name: _example(model, cores[name]) for name, model in models.items()}, names=["model", "verb"]),
        figures={**figures, "correlations": plots.coordinate_correlations(shared)},
    )
    if not n_written:
        return found
    texts = prompts.half("test").texts
    texts = texts[:: max(1, len(texts) // n_written)]
    return replace(found, written=pd.DataFrame({name: written(model, cores[name], texts) for name, model in models.items()}).T)


def across_frames(model: Any) -> pd.DataFrame:
    """AUCs on nouns and frames that the core was not extracted from: each frame is held out once, with half of the nouns.

    Args:
        model: a language model with its tokenizer.

    Returns:
        A row for each frame and one, "all", for their prompts together: ``layer`` chosen, ``base``, ``keep``, ``remove``, ``flip``, and
        ``random_least``, the lowest AUC when random directions are removed or flipped.
    """
    generator, modes = torch.Generator().manual_seed(0), ["base", "keep", "remove", "flip"]
    rows: dict[str, dict[str, float]] = {}
    margins, numbers = [], []
    for frame in FRAMES:
        prompts = agreement(model.tokenizer, PER_FRAME, held_out_nouns=True, held_out_frames=(frame,))
        core, test = ace.best_core(model, prompts), prompts.half("test")
        controls = [ace.random_core(core, generator) for _ in range(N_RANDOM)]
        edits = [core.keep(), core.remove(), core.flip(), *(edit for c in controls for edit in (c.remove(), c.flip()))]
        margins.append(ace.margins(test, ace.verb_scores(model, test, edits)))
        numbers.append(test.plural)
        rows[frame] = {"layer": float(Adapter(model).residual_hooks().index(core.hook)), **_aucs(margins[-1], test.plural, modes)}
    rows["all"] = {"layer": float("nan"), **_aucs(torch.cat(margins, dim=1), torch.cat(numbers), modes)}
    return pd.DataFrame(rows).T


def _aucs(margins: torch.Tensor, plural: torch.Tensor, modes: Sequence[str]) -> dict[str, float]:
    """AUC of each mode, and the least over the controls behind them."""
    values = ace.auc(margins, plural)
    return {**dict(zip(modes, values.tolist(), strict=False)), "random_least": float(values[len(modes) :].min())}


def at_best(sweep: xr.Dataset) -> xr.Dataset:
    """A sweep on the test half at its chosen layer."""
    return sweep.sel(half="test", layer=int(sweep["chosen_layer"]))


def written(model: Any, core: ace.Core, texts: Sequence[str]) -> pd.Series[float]:
    """How the first sentences come out that a model of the grammar writes, clean and flipped, as shares of all prompts.

    Args:
        model: a model of the grammar, such as `tiny`.
        core: what is flipped, with automatic strength.
        texts: prompts, each continued by `N_TOKENS` with the random numbers of its own seed; what has no full stop by then counts as not
            grammatical.

    Returns:
        ``clean_grammatical`` and ``flipped_grammatical``: the sentence parses, agreement aside; ``clean_agrees``: its verb has the head's
        number; ``flipped_disagrees``: under the flip it has the other one.
    """
    clean, flipped = [], []
    for seed, text in enumerate(texts):
        found = ace.generate(model, text, core, n_tokens=N_TOKENS, temperature=TEMPERATURE, seed=seed)
        clean.append(_first_sentence(found.clean))
        flipped.append(_first_sentence(found.edited))
    return pd.Series(
        {
            "clean_grammatical": np.mean([sentence is not None for sentence in clean]),
            "flipped_grammatical": np.mean([sentence is not None for sentence in flipped]),
            "clean_agrees": np.mean([sentence is not None and sentence.agrees for sentence in clean]),
            "flipped_disagrees": np.mean([sentence is not None and not sentence.agrees for sentence in flipped]),
        }
    )


def _first_sentence(text: str) -> Sentence | None:
    try:
        return parse(next(iter(sentences_of(text)), ""))
    except GrokinterpError:
        return None


def _row(sweep: xr.Dataset) -> pd.Series[float]:
    best = at_best(sweep)
    modes = ("base", "keep", "remove", "flip")
    return pd.Series(
        {
            "layer": int(sweep["chosen_layer"]),
            "of": int(sweep["layer"].max()),
            **{mode: float(best["agreement_auc"].sel(mode=mode)) for mode in modes},
            "random_least": float(sweep["random_auc"].sel(mode=["remove", "flip"]).min()),
            "pairs_base": float(best["pair_accuracy"].sel(mode="base")),
            "pairs_flip": float(best["pair_accuracy"].sel(mode="flip")),
            "spectral_gap": float(best["spectral_gap"]),
            "knob_r2": float(sweep["knob_r2"]),
            "flip_p_value": float(sweep["flip_p_value"]),
        }
    )


def _pairs(shared: xr.Dataset) -> pd.DataFrame:
    names = [str(name) for name in shared["model"].to_numpy()]
    rows = [
        {"a": a, "b": b, **{kind: float(shared[f"coordinate_{kind}"].sel(model=a, other=b)) for kind in ("spearman", "pearson", "canonical")}}
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    return pd.DataFrame(rows)


def _example(model: Any, core: ace.Core) -> pd.DataFrame:
    """The verbs behind the paper's prompt under the whole flip, strength 1."""
    probabilities = ace.generate(model, EXAMPLE, core, strength=1.0, n_tokens=1).probabilities
    return pd.DataFrame(probabilities, index=["clean", "flipped"]).T


# --- beside the paper's ------------------------------------------------------------------------------------------------------------


def measure_tiny(found: AgreementStudy) -> dict[str, Measurement]:
    """What holds on the models of the grammar: the worst model each time, range over models."""
    layers, together = found.layers, found.held_out.xs("all", level="frame")
    lost, lost_in_frames = (table["base"] - table["random_least"] for table in (layers, together))
    by_frame = found.held_out["remove"].groupby(level="frame").mean().drop("all").loc[list(FRAMES)]
    at = "layer " + ", ".join(f"{row.layer:.0f} of {row.of:.0f}" for row in layers.itertuples())
    return {
        "tiny_base": _worst(layers["base"], min, at),
        "tiny_keep": _worst(layers["keep"], min),
        "tiny_remove": _worst(layers["remove"], max),
        "tiny_flip": _worst(layers["flip"], max),
        "tiny_random": _worst(lost, max, f"the worst of {N_RANDOM} random directions a model"),
        "tiny_frames_base": _worst(together["base"], min),
        "tiny_frames_keep": _worst(together["keep"], min),
        "tiny_frames_remove": _worst(together["remove"], max, "mean by frame: " + ", ".join(f"{name} {auc:.2f}" for name, auc in by_frame.items())),
        "tiny_frames_flip": _worst(together["flip"], max),
        "tiny_frames_random": _worst(lost_in_frames, max),
        "tiny_coordinates": _worst(found.correlations["pearson"], min, f"Spearman at least {found.correlations['spearman'].min():.3f}"),
        "tiny_knob": _worst(layers["knob_r2"], min),
        "tiny_agrees": _worst(found.written["clean_agrees"], min),
        "tiny_inverted": _worst(found.written["flipped_disagrees"], min),
        "tiny_grammatical": _worst(found.written["flipped_grammatical"], min, f"clean at least {found.written['clean_grammatical'].min():.3f}"),
        "tiny_tests": Measurement(found.p_value, n=len(layers)),
    }


def measure_gpt2(found: AgreementStudy) -> dict[str, Measurement]:
    """The paper's table of GPT-2s, its correlations and its prompt."""
    measured: dict[str, Measurement] = {}
    for name, row in found.layers.iterrows():
        key, at = str(name).replace("-", "_"), f"layer {row['layer']:.0f} of {row['of']:.0f}, chosen on the extraction half"
        measured |= {f"agreement_{key}_{mode}": Measurement(float(row[mode]), note=at) for mode in ("base", "keep", "remove", "flip")}
        measured[f"agreement_{key}_gap"] = Measurement(float(row["spectral_gap"]), note=at)
    pairs = {frozenset((row["a"], row["b"])): row for _, row in found.correlations.iterrows()}
    names = {"small": "gpt2", "medium": "gpt2-medium", "large": "gpt2-large"}
    for key in GPT2_PAIRS:
        row = pairs[frozenset(names[size] for size in key.split("_"))]
        measured |= {f"agreement_{key}_{what}": Measurement(float(row[what])) for what in ("spearman", "pearson")}
    for verb in ("is", "are"):
        before, after = found.example.loc[("gpt2", verb), ["clean", "flipped"]].astype(float)
        measured[f"agreement_prompt_{verb}"] = Measurement(after, note=f"{before:.2f} before")
    measured["agreement_knob"] = _worst(found.layers["knob_r2"], min)
    measured["agreement_tests"] = Measurement(found.p_value, n=len(found.layers))
    return measured


def _worst(values: pd.Series, which: Callable[[pd.Series], float], note: str = "") -> Measurement:
    return Measurement(float(which(values)), float(values.min()), float(values.max()), len(values), "; ".join(filter(None, [note, "range"])))
