"""Transformers converge to invariant algorithmic cores (arXiv 2602.22600): claims beside measurements.

All models are post-LN with PyTorch's initialisation and betas and without the dropout of 0.1 that is in the author's code, but for the pre-LN
arm of the Markov models. Three models of modular addition are trained for 4,000 epochs; for the paper's 20,000 one is under "cpu" and all are
under "full". Where grokking is timed, accuracy is looked at every 10 steps under "cpu", every 20 on the full batch, instead of every step.
Agreement is measured on small models of a generated grammar, under "full" on the three published GPT-2s too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from grokinterp.laws import GrokkingTimeInP, PowerLaw, grokking_time_in_p, power_law
from grokinterp.laws.drawing import draw, line, points
from grokinterp.papers.claims import Budget, Measurement, averaged, extreme
from grokinterp.papers.cores2026 import runs
from grokinterp.papers.cores2026.agreement import TABLES, AgreementStudy, gpt2_agreement, measure_gpt2, measure_tiny, tiny_agreement
from grokinterp.papers.cores2026.chains import ARMS, chains
from grokinterp.papers.cores2026.claims import PRIMES, published_time
from grokinterp.papers.cores2026.growth import Grown, grow
from grokinterp.papers.reproduction import NO_FIGURES, Reproduction
from grokinterp.papers.tables import NOTHING, Tables, merged
from grokinterp.plots.lazy import go
from grokinterp.tasks import MarkovChain

LABELS = {"post": "post-LN", "pre_normalized": "pre-LN, normalized", "pre_residual": "pre-LN, residual stream"}
RATE = 1e-3  # the learning rate in the paper's text, which the claims are measured at


SOURCES = {
    **{f"{study}-{part}": index for study in ("tiny", "gpt2") for part, index in TABLES.items()},
    **dict.fromkeys(("markov", "markov-pairs", "modular", "modular-long", "times-decay", "times-p"), (0,)),
}
FIGURES = (
    *("eigenvalues", "core-size", "principal-angles", "canonical-correlations", "clock", "decay", "p", "tiny-correlations"),
    *(f"tiny-seed-{seed}-{part}" for seed in range(3) for part in ("by-layer", "knob")),
)


def reproduce(budget: Budget, folder: Path, known: Tables = NOTHING, train: bool = True) -> Reproduction:
    """Train and read what is not known of a budget, pretrained models first: what is missing there should be known at once.

    Raises:
        GrokinterpError: under "full", a GPT-2 that is neither in ``models/`` nor in the Hugging Face cache nor to be had from the hub.
    """
    studies = {name: study() for name, study in _studies(budget).items() if train and f"{name}-layers" not in known}
    fresh = {key: table for name, study in studies.items() for key, table in study.tables(name).items()}
    plan = runs.plan(budget)
    fresh |= chains(plan, folder / "markov", known, train)
    models, fresh["modular"] = grow(plan.modular, plan, folder / "modular", known.get("modular"), train)
    longer, fresh["modular-long"] = grow(plan.long, plan, folder / "modular", known.get("modular-long"), train)
    for name, configs in (("times-decay", plan.in_decay), ("times-p", plan.in_p)):
        fresh[name] = runs.times(configs, folder / "times", plan.workers, known.get(name), train)
    drawn = {f"{name}-{part}": figure for name, study in studies.items() for part, figure in study.figures.items()}
    if len(models) == len(plan.modular) and len(longer) == len(plan.long):
        drawn |= growth_figures([*longer, *models[len(longer) :]])
    return from_tables(budget, merged(known, fresh), drawn)


def _studies(budget: Budget) -> dict[str, Callable[[], AgreementStudy]]:
    """The agreement studies of a budget; none under "smoke", which has no minutes to train language models in."""
    studies: dict[str, Callable[[], AgreementStudy]] = {"gpt2": gpt2_agreement, "tiny": tiny_agreement}
    return {} if budget == "smoke" else studies if budget == "full" else {"tiny": tiny_agreement}


def from_tables(budget: Budget, tables: Tables, drawn: Mapping[str, go.Figure] = NO_FIGURES) -> Reproduction:
    """What tables of finished runs say.

    Args:
        budget: under "smoke" only what holds at any size is measured.
        tables: of `SOURCES`, as far as there are rows.
        drawn: figures that need more than the tables.
    """
    flow = "simulated; that dm/dt = −λm + cλ‖ψ‖² is the paper's flow dα/dt = −λ(α − cψ) multiplied by ψ, and is not measured"
    found = {"theory_norm": Measurement(_norm_error(), note="arithmetic"), "theory_spread": Measurement(_spread(), note=flow)}
    figures = dict(drawn)
    if "markov" in tables:
        seeds, pairs = tables["markov"], tables["markov-pairs"]
        rate = RATE if RATE in set(seeds["lr"]) else float(seeds["lr"].iloc[0])
        found |= measure_chains(seeds[seeds["lr"] == rate], pairs[pairs["lr"] == rate])
        figures |= chain_figures(seeds, pairs)
    found |= measure_growth(tables["modular"]) if "modular" in tables else {}
    found |= measure_long(tables["modular-long"]) if "modular-long" in tables else {}
    if "times-decay" in tables and "times-p" in tables:
        laws = fitted(tables["times-decay"], tables["times-p"])
        found |= measure_times(*laws, tables["times-p"])
        figures |= {name: law.figure().update_yaxes(title_text="grokking time τ (steps)") for name, law in zip(("decay", "p"), laws) if law}
        if "decay" in figures:
            figures["decay"].update_layout(title_text="Grokking time and weight decay").update_xaxes(title_text="weight decay λ")
    for name, measure in (("gpt2", measure_gpt2), ("tiny", measure_tiny)):
        if (study := AgreementStudy.from_tables(name, tables)) is not None:
            found |= measure(study)
    return Reproduction.from_measurements("cores2026", budget, found, figures, tables, FIGURES)


# --- Markov chains -----------------------------------------------------------------------------------------------------------------


def measure_chains(seeds: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Measurement]:
    """Each arm's numbers, over seeds and pairs of seeds."""
    found: dict[str, Measurement] = {}
    for arm in ARMS:
        own, both = seeds[seeds["arm"] == arm], pairs[pairs["arm"] == arm]
        name = "markov" if arm == "post" else arm
        lost = own["base"] - own["keep"]
        found |= {
            f"{name}_rank": averaged(own["rank"], spectrum(own)),
            f"{name}_keep_gap": Measurement(float(lost[lost.abs().idxmax()]), float(lost.min()), float(lost.max()), len(own), "range over runs"),
            f"{name}_real": averaged(own["real"]),
            f"{name}_imaginary": averaged(own["imaginary"]),
            f"{name}_r2": extreme(own["r2_of_oracle"], "min", f"largest {own['r2_of_oracle'].max():.3f}"),
        }
        if arm == "post":
            found |= _measure_post(own, both)
        else:
            found |= {
                f"{name}_remove": averaged(own["remove"]),
                f"{name}_overlap": extreme(both["overlap"], "max"),
                f"{name}_cca": extreme(both["cca_3"], "min", f"the first at least {both['cca_1'].min():.3f}") if "cca_3" in both else _no_third(both),
                f"{name}_third": averaged(own["third"]),
            }
    return found


def _no_third(pairs: pd.DataFrame) -> Measurement:
    return Measurement(math.nan, n=len(pairs), note="cores of fewer than three dimensions")


def spectrum(own: pd.DataFrame) -> str:
    """The energy of an arm's leading dimensions, in words."""
    shares = own[[name for name in own if str(name).startswith("energy_")]].mean().to_numpy()[:5]
    return "cumulative energy " + ", ".join(f"{share:.4f}" for share in shares)


def _measure_post(own: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Measurement]:
    """What the paper gives seed by seed and pair by pair."""
    angles = pairs[[name for name in pairs if str(name).startswith("angle_")]]
    found = {
        "markov_base": averaged(own["base"]),
        "markov_keep": averaged(own["keep"]),
        "markov_angles_min": Measurement(float(angles.min(axis=None)), n=len(pairs)),
        "markov_angles_max": Measurement(float(angles.max(axis=None)), n=len(pairs)),
        "markov_weights": averaged(pairs["weights"]),
    }
    for _, row in own.iterrows():
        found |= {f"markov_{name}_{row['seed']:.0f}": Measurement(float(row[name])) for name in ("remove", "third")}
    for _, row in pairs.iterrows():
        names = f"{row['seed']:.0f}_{row['other']:.0f}"
        found[f"markov_overlap_{names}"] = Measurement(float(row["overlap"]))
        found |= {f"markov_cca_{names}_{i}": Measurement(float(row.get(f"cca_{i}", math.nan))) for i in (1, 2, 3)}
    return found


def chain_figures(seeds: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, go.Figure]:
    """Eigenvalues in the complex plane; principal angles and canonical correlations of all pairs."""
    truth = MarkovChain().eigenvalues
    dots = [points(truth.real, truth.imag, "the chain", 6, "x")]
    for i, (arm, own) in enumerate(seeds.groupby("arm")):
        x = np.concatenate([own["real"], own["real"], own["third"]])
        y = np.concatenate([own["imaginary"], -own["imaginary"], np.zeros(len(own))])
        dots.append(points(x, y, LABELS[str(arm)], i, "circle-open"))
    caption = "Each circle is an eigenvalue of one model's core; crosses are those of the chain it learned, the constant left out."
    plane = draw("Eigenvalues of the cores' dynamics", caption, dots, "real part", "imaginary part").update_yaxes(scaleanchor="x", range=[-0.4, 0.4])
    angles, correlations = "Principal angles of all pairs of cores", "Canonical correlations of all pairs of cores"
    return {
        "eigenvalues": plane,
        "principal-angles": _pairs_figure(pairs, "angle_", angles, "degrees", "At 90° two cores have no direction in common."),
        "canonical-correlations": _pairs_figure(pairs, "cca_", correlations, "correlation", "At 1 two cores say the same about an input."),
    }


def _pairs_figure(pairs: pd.DataFrame, prefix: str, title: str, label: str, caption: str) -> go.Figure:
    names = [str(name) for name in pairs if str(name).startswith(prefix)]
    ranks = np.array([int(name.removeprefix(prefix)) for name in names])
    dots = [
        points(np.tile(ranks, len(own)), own[names].to_numpy().ravel(), LABELS[str(arm)], i, "circle-open")
        for i, (arm, own) in enumerate(pairs.groupby("arm"))
    ]
    return draw(title, f"{caption} Each circle is one pair of models.", dots, "component", label).update_xaxes(dtick=1)


# --- modular addition --------------------------------------------------------------------------------------------------------------


def measure_growth(growths: pd.DataFrame) -> dict[str, Measurement]:
    """Sizes, modes and operators at grokking, at epoch 2,000 and at the end."""
    end = f"epoch {growths['end'].max():,.0f}" if growths["end"].notna().any() else "no run groks in time to be forked"
    energy = f"by energy alone {growths['energy_grok'].mean():.1f}"
    shuffled = {when: f"shuffled answers {growths[f'modes_null_{when}'].mean():.1f}" for when in ("grok", "2000")}
    since = (growths["reported_end"] / growths["reported_2000"]).mean()
    apart = (growths["reported_end"] > growths["reported_free"]).where(growths["reported_free"].notna())
    return {
        "modular_grok": averaged(growths["grok"]),
        "modular_size": averaged(growths["reported_grok"], energy),
        "modular_keep_gap": extreme(growths["base_grok"] - growths["keep_grok"], "max"),
        "modular_remove": extreme(growths["remove_grok"], "max"),
        "modular_size_2000": averaged(growths["reported_2000"], f"by energy alone {growths['energy_2000'].mean():.1f}"),
        "modular_grows": averaged(growths["reported_end"] / growths["reported_grok"], f"{end}; since epoch 2,000 × {since:.2g}"),
        "modular_compact": averaged(growths["reported_free"] / growths["reported_grok"], end),
        "modular_apart": averaged(apart.astype(float), end),
        "modular_necessary": averaged(growths["necessary_end"] / growths["necessary_grok"], end),
        "modular_sufficient": averaged(growths["sufficient_end"] / growths["sufficient_grok"], end),
        "modular_modes": averaged(growths["modes_grok"], shuffled["grok"]),
        "modular_modes_2000": averaged(growths["modes_2000"], shuffled["2000"]),
        "modular_r2_start": averaged(growths["r2_start"]),
        "modular_held_out_before": averaged(growths["held_out_before"]),
        "modular_held_out_grok": averaged(growths["held_out_grok"]),
        "modular_null_grok": extreme(growths["null_grok"], "max"),
    }


def measure_long(growths: pd.DataFrame) -> dict[str, Measurement]:
    """The same at the end of the paper's 20,000 epochs."""
    shuffled = f"shuffled answers {growths['modes_null_end'].mean():.1f}"
    return {
        "modular_size_end": averaged(growths["reported_end"], f"by energy alone {growths['energy_end'].mean():.1f}"),
        "modular_size_free": averaged(growths["reported_free"], f"by energy alone {growths['energy_free'].mean():.1f}"),
        "modular_sufficient_end": averaged(growths["sufficient_end"]),
        "modular_modes_end": averaged(growths["modes_end"], shuffled),
    }


def growth_figures(models: Sequence[Grown]) -> dict[str, go.Figure]:
    """Core sizes of models over training with and without decay, and the first one's clock at the end."""
    from grokinterp.plots import core_clock

    lines = []
    for model in models:
        size, seed = model.size, model.run.config.seed
        kinds = [("reported", "necessary", 0), ("sufficient", "sufficient", 2)]
        lines += [line(size["step"].to_numpy(), size.sel(rank=rank).to_numpy(), f"{label}, seed {seed}", i) for rank, label, i in kinds]
        if model.free is not None:
            free = model.free["core_size"].sel(rank="reported")
            lines.append(line(free["step"].to_numpy(), free.to_numpy(), f"necessary without decay, seed {seed}", 1, "dash"))
    caption = "How many dimensions have to go before accuracy is at chance, and how few alone suffice; dashed, after weight decay is switched off."
    last = models[0].until if models[0].decayed is None else models[0].decayed
    return {"core-size": draw("Core size over training", caption, lines, "training steps", "dimensions"), "clock": core_clock(last.dataset)}


# --- grokking times ----------------------------------------------------------------------------------------------------------------


def fitted(in_decay: pd.DataFrame, in_p: pd.DataFrame) -> tuple[PowerLaw | None, GrokkingTimeInP | None]:
    """The laws of grokking time in λ and in p; None where too few runs grok."""
    enough = [table.loc[table["time"].notna(), name].nunique() for table, name in ((in_decay, "weight_decay"), (in_p, "p"))]
    decay = power_law(in_decay["weight_decay"], in_decay["time"]) if enough[0] > 1 and in_decay["time"].notna().sum() > 2 else None
    prime = grokking_time_in_p(in_p["p"], in_p["time"], rng=np.random.default_rng(0)) if enough[1] > 2 else None
    return decay, prime


def measure_times(decay: PowerLaw | None, prime: GrokkingTimeInP | None, in_p: pd.DataFrame) -> dict[str, Measurement]:
    """The constants of both laws, and whether all of the runs behind the second grok."""
    found: dict[str, Measurement] = {}
    if decay is not None:
        found["time_exponent"] = Measurement(*decay.exponent, decay.n_runs, f"R² {decay.r2:.3f}; {decay.n_never} never grok")
    if prime is not None:
        times = in_p.groupby("p")["time"].mean()
        beside = ", ".join(f"{p}: {time:,.0f} ({published_time(p):,.0f})" for p, time in zip(times.index.astype(int), times, strict=True))
        found |= {
            "time_omega": Measurement(*prime.omega, prime.n_runs, f"mean τ by p (paper's law): {beside}"),
            "time_p_crit": Measurement(*prime.p_crit, prime.n_runs),
            "time_r2": Measurement(prime.r2_of_means, n=prime.n_runs, note=f"over runs {prime.r2:.3f}"),
            "time_never": Measurement(prime.n_runs / (prime.n_runs + prime.n_never), n=prime.n_runs + prime.n_never),
        }
    return found


def _psi(p: int) -> np.ndarray:
    """ψ_k = 1 − cos(2πk/p) over the frequencies."""
    return 1 - np.cos(2 * np.pi * np.arange(1, p // 2 + 1) / p)


def _norm_error() -> float:
    """‖ψ‖² over the frequencies against 3p/4."""
    return max(abs(float(np.square(_psi(p)).sum()) / (3 * p / 4) - 1) for p in PRIMES)


def _spread() -> float:
    """The smallest cosine between ψ and what decay leaves of random α while its margin ψ·α is held at 1."""
    rng, cosines = np.random.default_rng(0), []
    for psi in map(_psi, PRIMES):
        alpha = rng.standard_normal(len(psi))
        for _ in range(3_000):  # 1 % of decay a step leaves 1e-13 of what is not along ψ
            alpha *= 0.99
            alpha += (1 - psi @ alpha) * psi / (psi @ psi)
        cosines.append(float(psi @ alpha / np.linalg.norm(psi) / np.linalg.norm(alpha)))
    return min(cosines)
