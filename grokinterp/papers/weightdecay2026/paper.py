"""Weight Decay Regimes in Grokking Transformers (arXiv 2605.20441): configurations and claims.

Times are epochs. Our trainings count steps, of which an epoch of the paper's task has 10 (4,704 training pairs in batches of 512), and are
evaluated every 10 epochs, so that is how exactly grokking is timed. A seed names other draws here than in the paper.

Under "cpu" the boundary and the intervention are measured on a smaller model and horizon, and every claim about these says so: one layer of
64 dimensions and 8 heads, addition mod 53, 800 epochs of 10 steps. Under "full" the paper's own grid is run as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from grokinterp import presets
from grokinterp.laws import LogisticBoundary
from grokinterp.papers.claims import Budget, Measurement, share
from grokinterp.papers.reproduction import NO_FIGURES, Reproduction
from grokinterp.papers.tables import NOTHING, Tables, merged
from grokinterp.papers.weightdecay2026 import baselines, gpu, runs
from grokinterp.papers.weightdecay2026.claims import BINS, CALIBRATION, INTERVENED, MULTITASK, MULTITASK_DECAYS, tag
from grokinterp.papers.weightdecay2026.fits import ARMS, Comparison, Fits, boundary, compare, figures, fit_counts, located, readout_gain
from grokinterp.papers.weightdecay2026.rows import EARLY, RegimeName
from grokinterp.plots.lazy import go

OWN_TABLES = ("runs", "collapse", "pairs-near", "pairs-above", "diagnostics", "baselines")
PAPER_TABLES = ("canonical-runs", "multitask-runs", "published-baselines", "diagnostics-gpu", *(f"pairs-{tag(decay)}" for decay in INTERVENED))
SOURCES = dict.fromkeys((*OWN_TABLES, *PAPER_TABLES), (0,))
FIGURES = ("boundary", "horizon", "diagnostics", "pairs-near", "pairs-above", "baselines", "published-boundary")


def reproduce(
    budget: Budget, folder: Path, known: Tables = NOTHING, train: bool = True, *, seconds: float = math.inf, tf32: bool = False
) -> Reproduction:
    """Train and fork what is not known of a budget, and read all that is finished."""
    if budget == "gpu":
        grid = gpu.published()
        fresh = gpu.tables(gpu.train(grid, folder, seconds=seconds if train else 0, tf32=tf32), grid)
        gpu.write_tables(fresh, folder)
        return from_tables(budget, {**known, **fresh})
    plan, trained = runs.plan(budget), folder / "runs"
    # What a budget does not plan counts too where it is known: the interventions at the paper's size under "cpu", or a GPU's diagnostics.
    tables = merged(known, runs.read_all(plan, trained, known, train))
    at_hand = all((trained / config.digest).exists() for configs in plan.baselines.values() for config in configs)
    return from_tables(budget, tables, {"baselines": baselines.figure(plan.baselines, trained)} if at_hand else {})


def from_tables(budget: Budget, tables: Tables, drawn: Mapping[str, go.Figure] = NO_FIGURES) -> Reproduction:
    """What tables of finished runs say.

    Args:
        budget: says until which horizons runs are followed.
        tables: as `runs.read_all` gives them.
        drawn: figures that need more than the tables.
    """
    plan = runs.plan(budget)
    published, found = measure_counts()
    found |= measure_parameters(budget) | baselines.measure_parameters()
    derived = dict(tables)
    pairs = {name.removeprefix("pairs-"): table for name, table in tables.items() if name.startswith("pairs-")}
    compared = compare(pairs)
    own = boundary(tables["runs"], plan.smaller.horizons, plan.n_bootstrap) if "runs" in tables else None
    if own is not None:
        found |= measure_smaller(own)
        derived["horizons"] = own.by_horizon
    if "collapse" in tables:
        found["smaller_collapse"] = share_of_regime(tables["collapse"], "collapse")
    if pairs:
        found |= measure_smaller_pairs(pairs, compared) | noted(measure_published_pairs(pairs, compared), pd.concat(pairs.values()))
        derived["differences"] = pd.DataFrame(list(compared.values()))
    if "baselines" in tables:
        found |= baselines.measure_smaller(tables["baselines"])
    if plan.calibration is not None and "diagnostics" in tables:
        found |= measure_calibration(tables["diagnostics"])
    if "diagnostics-gpu" in tables:
        found = noted(measure_calibration(tables["diagnostics-gpu"]), tables["diagnostics-gpu"]) | found
    canonical = _canonical(plan, tables)
    if canonical is not None:
        derived["canonical-horizons"] = canonical.by_horizon
        found |= noted(measure_canonical(tables["canonical-runs"], canonical), tables["canonical-runs"])
        if "multitask-runs" in tables:
            found |= measure_multitask(_tasks(plan, tables["multitask-runs"]), canonical)
    if "published-baselines" in tables:
        found |= baselines.measure_published(tables["published-baselines"])
    shown = {**figures(own, pairs, tables.get("diagnostics")), **drawn, "published-boundary": published.figure()}
    return Reproduction.from_measurements("weightdecay2026", budget, found, shown, derived, FIGURES)


def noted(found: Mapping[str, Measurement], table: pd.DataFrame) -> dict[str, Measurement]:
    """Measurements whose notes say on what the runs of a table were trained, where it says so."""
    how = " and ".join(sorted(set(table["how"].dropna()))) if "how" in table else ""
    return {key: replace(value, note="; ".join(filter(None, (value.note, how)))) for key, value in found.items()}


def _canonical(plan: runs.Plan, tables: Tables) -> Fits | None:
    """The boundary of the paper's own grid; None where there are no runs of it."""
    if "canonical-runs" not in tables:
        return None
    everything, horizons = tables["canonical-runs"], runs.HORIZONS if plan.canonical is None else plan.canonical.horizons
    return boundary(everything[everything["weight_decay"] <= 5], horizons, plan.n_bootstrap)


def _tasks(plan: runs.Plan, table: pd.DataFrame) -> dict[tuple[presets.Size, str], Fits]:
    """The boundaries of the replication, of each size and operation with runs."""
    by_task = {key: table[(table["size"] == key[0]) & (table["operation"] == key[1])] for key in MULTITASK}
    return {key: boundary(own, runs.MULTITASK_HORIZONS, plan.n_bootstrap) for key, own in by_task.items() if len(own)}


# --- what needs no training ----------------------------------------------------------------------------------------------------------


def measure_counts() -> tuple[LogisticBoundary, dict[str, Measurement]]:
    """The paper's own fits, made again from its own counts."""
    law = fit_counts(BINS["weight_decay"].to_list(), BINS["n"].to_list(), BINS["grokked"].to_list())
    above = BINS["weight_decay"] > law.boundary.value
    resamples = "1,500 resamples of runs within each λ"
    found = {
        "bins_boundary": located(law, law.n_runs),
        "bins_steepness": Measurement(*law.steepness, n=law.n_runs),
        "bins_low": Measurement(law.boundary.low, n=law.n_runs, note=resamples),
        "bins_high": Measurement(law.boundary.high, n=law.n_runs, note=resamples),
        "bins_runs": Measurement(law.n_runs, n=law.n_runs, note="the published bins hold 20 runs fewer than the published fit"),
        "bins_grokking": Measurement(float(BINS["grokked"][above].sum()), n=law.n_runs),
    }
    for (size, operation), grokked in MULTITASK.items():
        refit = fit_counts(MULTITASK_DECAYS, [5] * len(MULTITASK_DECAYS), grokked)
        found[f"refit_{size}_{operation}"] = located(refit, refit.n_runs)
    return law, found


def measure_parameters(budget: Budget) -> dict[str, Measurement]:
    """Parameters of the three models; under "smoke" of the small one alone."""
    sizes: Sequence[presets.Size] = get_args(presets.Size)[: 1 if budget == "smoke" else None]
    return {f"parameters_{size}": Measurement(baselines.n_parameters(presets.weightdecay2026(size))) for size in sizes}


# --- our own model -------------------------------------------------------------------------------------------------------------------


def measure_smaller(fits: Fits) -> dict[str, Measurement]:
    """The boundary of our own model, and what its attention readouts predict."""
    table, rates, n, epochs = fits.runs, fits.rates, len(fits.runs), float(fits.by_horizon.index[-1])
    smallest, grokking, gain = min(rates), table.dropna(subset="grok"), readout_gain(table)
    both = f"R² {gain.with_attention:.2f} with, {gain.without:.2f} without, of runs that grok after epoch {EARLY}, leaving one seed out"
    found = {
        "smaller_low": Measurement(rates[smallest], n=n, note=f"λ = {smallest:g}, {epochs:g} epochs"),
        "smaller_high": Measurement(max(rates.values()), n=n, note=", ".join(f"{rate:.2g} at {decay:g}" for decay, rate in rates.items())),
        "smaller_memorization": share_of_regime(table[table["weight_decay"] == smallest], "memorization"),
        "smaller_times": Measurement(float(spearmanr(grokking["weight_decay"], grokking["grok"]).statistic), n=len(grokking)),
        "smaller_readouts": Measurement(gain.with_attention - gain.without, n=gain.n, note=both),
        "smaller_boundary": located(fits.logistic, n, f"within {epochs:g} epochs; {_by_horizon(fits)}"),
        "smaller_exponent": missing(fits.power, n),
        "smaller_horizon": missing(fits.survival, n),
    }
    if not isinstance(fits.power, str):
        left_out = f"above λ_c = {fits.power.offset:.3g}; {fits.n_below} runs grok at or below it; R² {fits.power.r2:.2f}"
        found["smaller_exponent"] = Measurement(*fits.power.nu, n=fits.power.n_runs, note=f"{left_out}; prefactor {fits.power.prefactor} epochs")
    if not isinstance(fits.survival, str):
        ratio = fits.survival.at(epochs).value / fits.survival.at(epochs / 2).value
        found["smaller_horizon"] = Measurement(ratio, n=n, note=f"{epochs:g} over {epochs / 2:g} epochs, by survival; {fits.survival}")
    return found


def _by_horizon(fits: Fits) -> str:
    at = (f"{row.logistic:.3g} logistic and {row.survival:.3g} survival at {row.Index:g}" for row in fits.by_horizon.itertuples())
    return ", ".join(at)


def share_of_regime(table: pd.DataFrame, name: RegimeName) -> Measurement:
    """Share of runs in a regime; the note counts all of them."""
    return share(table["name"] == name, ", ".join(f"{count} {regime}" for regime, count in table["name"].value_counts().items()))


def missing(law: object, n: int) -> Measurement:
    """No number, with the reason that stands in its place."""
    return Measurement(math.nan, n=n, note=str(law))


def measure_smaller_pairs(pairs: Mapping[str, pd.DataFrame], compared: Mapping[tuple[str, str], Comparison]) -> dict[str, Measurement]:
    """The intervention on our own model."""
    found: dict[str, Measurement] = {}
    for name in [name for name in ("near", "above") if name in pairs]:
        table, whole = pairs[name], compared[name, "whole_run"]
        means = ", ".join(f"{arm} {table[arm].mean():.4f}" for arm in ARMS)
        found |= {
            f"smaller_reinit_d_{name}": number_of(compared[name, "reinit"], "d", f"; λ = {table['weight_decay'].iloc[0]:g}, mean peaks {means}"),
            f"smaller_reinit_p_{name}": number_of(compared[name, "reinit"], "p"),
            f"smaller_sham_p_{name}": number_of(compared[name, "reinit_sham"], "p"),
            f"smaller_clip_p_{name}": number_of(compared[name, "clip"], "p", f"; clipping acts in {table['clipped'].sum()} of {len(table)}"),
            f"smaller_whole_run_{name}": Measurement(whole.mean, n=whole.n, note=f"between {whole.smallest:+.4f} and {whole.largest:+.4f}"),
        }
    return found


def number_of(row: Comparison, which: str, extra: str = "") -> Measurement:
    """The mean, p or d of a comparison, with the others in the note; NaN with the reason where it does not exist."""
    if row.reason and which != "mean":
        return Measurement(math.nan, n=row.n, note=f"mean difference {row.mean:+.4f} nats; {row.reason}{extra}")
    interval = (row.low, row.high) if which == "mean" else (math.nan, math.nan)
    note = f"mean difference {row.mean:+.4f} [{row.low:+.4f}, {row.high:+.4f}] nats, d = {row.d:.2f}, p = {row.p:.2g}{extra}"
    return Measurement(getattr(row, which), *interval, n=row.n, note=note)


# --- the paper's own size ------------------------------------------------------------------------------------------------------------


def measure_calibration(table: pd.DataFrame) -> dict[str, Measurement]:
    """The run at λ = 1, where it has got so far: means over the epochs that a claim names."""
    found = {}
    for name, (quantity, (first, last)) in CALIBRATION.items():
        values = table[quantity].loc[first:last].dropna()
        if last <= table.index[-1] and len(values):
            measured = Measurement.over_runs(values, "range over epochs" if len(values) > 1 else "")
            found[f"calibration_{name}"] = replace(measured, n=1)
    return found


def measure_canonical(everything: pd.DataFrame, fits: Fits) -> dict[str, Measurement]:
    """The paper's own grid, as far as it has runs."""
    at = dict(tuple(everything.groupby("weight_decay")))
    law, power = fits.logistic, fits.power
    found = {f"rate_{tag(decay)}": Measurement(rate, n=len(at[decay])) for decay, rate in fits.rates.items() if decay in set(BINS["weight_decay"])}
    for decay in {0.1, 2.0} & at.keys():
        grok = at[decay]["grok"].dropna()
        found[f"time_{tag(decay)}"] = Measurement(float(grok.mean()) if len(grok) else math.nan, n=len(grok))
    regimes: dict[float, RegimeName] = {0.001: "memorization", 0.05: "developmental", 10.0: "collapse"}
    found |= {name: share_of_regime(at[decay], name) for decay, name in regimes.items() if decay in at}
    return found | {
        "boundary": located(law, len(fits.runs)),
        "exponent": missing(power, len(fits.runs)) if isinstance(power, str) else Measurement(*power.nu, n=power.n_runs),
        "prefactor": missing(power, len(fits.runs)) if isinstance(power, str) else Measurement(*power.prefactor, n=power.n_runs),
    }


def measure_multitask(tasks: Mapping[tuple[presets.Size, str], Fits], canonical: Fits) -> dict[str, Measurement]:
    """The replication on four operations, and how λ_c of the small model on addition moves with the horizon."""
    found = {}
    for key, fits in tasks.items():
        name, law = "_".join(key), fits.logistic
        counts = np.rint(5 * np.array(list(fits.rates.values())))
        note = "ours " + "/".join(f"{count:.0f}" for count in counts)
        found[f"counts_{name}"] = Measurement(float(np.abs(counts - MULTITASK[key]).max()), n=len(fits.runs), note=note)
        found[f"boundary_{name}"] = located(law, len(fits.runs))
    longer, shorter = tasks["small", "addition"].logistic, canonical.logistic
    if isinstance(longer, str) or isinstance(shorter, str):
        return found | {"horizon": missing(longer if isinstance(longer, str) else shorter, len(canonical.runs))}
    return found | {"horizon": Measurement(longer.boundary.value / shorter.boundary.value, n=longer.n_runs + shorter.n_runs)}


def measure_published_pairs(pairs: Mapping[str, pd.DataFrame], compared: Mapping[tuple[str, str], Comparison]) -> dict[str, Measurement]:
    """The intervention at the paper's own size."""
    found = {}
    for name in [name for name in pairs if name not in ("near", "above")]:
        for arm in ("control", "reinit", "clip"):
            found[f"{arm}_{name}"] = Measurement(float(pairs[name][arm].mean()), n=len(pairs[name]), note="in the window after the intervention")
        for kind in ("reinit", "clip"):
            found[f"{kind}_difference_{name}"] = number_of(compared[name, kind], "mean")
            found[f"{kind}_p_{name}"] = number_of(compared[name, kind], "p")
        found[f"reinit_d_{name}"] = number_of(compared[name, "reinit"], "d")
    return found
