"""Circuit Synchronization Precedes Generalization (arXiv 2606.12966): configurations and claims.

A seed names other draws here than in the paper, so times are accepted within a factor and leads within one interval of its 500-step
grid; ours is 100 steps. Events have to hold for two evaluations. FSD is the paper's, K = 1; notes give K = 3 and 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from grokinterp.laws import ForkLaw, fork_law, lead_times
from grokinterp.laws.drawing import draw, points
from grokinterp.measures.fsd import IRREP_TOPS, TOPS, synchronization
from grokinterp.papers.claims import Budget, Measurement, averaged, share
from grokinterp.papers.fsd2026 import runs
from grokinterp.papers.fsd2026.claims import CONFIGURATIONS, DELAYS, GRID, S5_IRREPS, TABLE_5, VARIANTS, claim_id
from grokinterp.papers.fsd2026.sites import beside_published, leads_everywhere, measure_sites
from grokinterp.papers.reproduction import NO_FIGURES, Reproduction
from grokinterp.papers.tables import NOTHING, RUN, Tables, known, merged
from grokinterp.plots.lazy import go
from grokinterp.reports.report import Report
from grokinterp.training.runs import Run

SOURCES = dict.fromkeys(("configurations", "forks", "significance", "s5", "table-5", "ablation", "sites"), (0,))
FIGURES = ("leads", "synchronization", "fork-law")
EXAMPLE = "p97-s42"


def reproduce(budget: Budget, folder: Path, known: Tables = NOTHING, train: bool = True) -> Reproduction:
    """Train and fork what is not known of a budget, and read all that is finished."""
    plan = runs.plan(budget)
    reports = runs.read_all(plan, folder, known, train)
    tables = merged(known, _read(plan, folder, reports, known))
    shown = next((name for name in (EXAMPLE, *plan.main) if name in reports), None)
    drawn = {}
    if shown is not None:
        drawn["synchronization"] = synchronization(reports[shown].dataset).update_layout(title_text=f"Synchronization and grokking, {shown}")
    return from_tables(budget, tables, drawn)


def _read(plan: runs.Plan, folder: Path, reports: Mapping[str, Report], tables: Tables) -> dict[str, pd.DataFrame]:
    """The tables of the runs that were read, each with the digest of the run that a row is about; nothing is forked that a table knows."""
    rows: dict[str, dict[str, Any]] = {}
    for name, config in {**plan.main, **plan.variants}.items():
        if name in reports:
            p = int(config.task.args["p"])
            rows[name] = {"p": p, **runs.events(reports[name].dataset, p), RUN: config.digest}
    s5 = {name: {**runs.s5_events(reports[name].dataset), RUN: config.digest} for name, config in plan.s5.items() if name in reports}
    events = pd.DataFrame.from_dict(rows, orient="index")
    fresh = {"configurations": events, "s5": pd.DataFrame.from_dict(s5, orient="index")}
    main = events.loc[[name for name in plan.main if name in reports]]
    if len(main):
        unforked = main[~main[RUN].isin(known(tables.get("forks")))]
        fresh |= {"forks": runs.fork_draws(plan, folder, unforked), "significance": _significance(plan, folder, main)}
        fresh["sites"] = leads_everywhere({str(name): Run(folder / str(name)) for name in main.index if name in CONFIGURATIONS})
    if EXAMPLE in reports and plan.main[EXAMPLE].digest not in known(tables.get("table-5")):
        example, about = Run(folder / EXAMPLE), {RUN: plan.main[EXAMPLE].digest}
        fresh["table-5"] = runs.at_steps(example, reports[EXAMPLE], list(TABLE_5.index)).assign(**about)
        fresh["ablation"] = _ablation(example, main["grok"][EXAMPLE]).assign(**about)
    return fresh


def from_tables(budget: Budget, tables: Tables, drawn: Mapping[str, go.Figure] = NO_FIGURES) -> Reproduction:
    """What tables of finished runs say.

    Args:
        budget: under "smoke" the one tiny run stands for the paper's configurations.
        tables: of `SOURCES`, as far as there are rows.
        drawn: figures that need more than the tables.
    """
    if "configurations" not in tables:
        return Reproduction.from_measurements("fsd2026", budget, {})
    events = _ours(tables["configurations"])
    main = events if budget == "smoke" else events[events.index.isin(list(CONFIGURATIONS))]
    draws = tables.get("forks", pd.DataFrame(columns=runs.FORKS))
    law = fitted(draws)
    found = {
        **measure_runs(events),
        **measure_configurations(main),
        **measure_forks(draws, law, main),
        **measure_s5(tables.get("s5", pd.DataFrame())),
    }
    derived = {**tables, "configurations": _beside_the_paper(events), "fork-law": delays(draws)}
    if "sites" in tables:
        derived["sites-beside-published"] = beside_published(tables["sites"])
        found |= measure_sites(derived["sites-beside-published"])
    if "significance" in tables:
        found |= measure_significance(tables["significance"])
    if law is not None:
        derived["fork-fits"] = law.table()
    if "table-5" in tables:
        derived["table-5"] = _ours(tables["table-5"]).join(TABLE_5)
        found |= measure_table_5(derived["table-5"])
    if "ablation" in tables:
        found |= measure_ablation(tables["ablation"])
    figures = {"leads": leads(main), **drawn}
    if law is not None:
        figures["fork-law"] = law.figure().for_each_trace(lambda trace: trace.update(name=f"p = {trace.name}"))
    return Reproduction.from_measurements("fsd2026", budget, found, figures, derived, FIGURES)


def _ours(table: pd.DataFrame) -> pd.DataFrame:
    """A table without the paper's columns, which are joined again."""
    return table[[name for name in table.columns if not str(name).startswith("paper_")]]


def _significance(plan: runs.Plan, folder: Path, main: pd.DataFrame) -> pd.DataFrame:
    """The tests of each run at its synchronisation, by name; runs that never synchronise have none."""
    onsets = main["sync_1"].dropna()
    rows = {name: runs.significance(Run(folder / str(name)), int(step), plan.permutations) for name, step in onsets.items()}
    tests = pd.DataFrame.from_dict(rows, orient="index", columns=["step", "fsd", "p_permutation", "p_shuffle"])
    tests[RUN] = main[RUN].reindex(tests.index)
    return tests


def _ablation(run: Run, grok: float) -> pd.DataFrame:
    """Accuracies at grokking, if there is any, and at the end."""
    moments = {"grok": grok, "end": float(run.steps[-1])}
    return pd.DataFrame({when: runs.zero_ablation(run, int(step)) for when, step in moments.items() if not math.isnan(step)})


def measure_runs(events: pd.DataFrame) -> dict[str, Measurement]:
    """Each run's own numbers; NaN where it never gets there."""
    found: dict[str, Measurement] = {}
    for name, row in events.iterrows():
        note = _note(row)
        if name in CONFIGURATIONS:
            found |= {claim_id(kind, name): Measurement(row[column], note=note) for kind, column in (("sync", "sync_1"), ("lead", "lead_1"))}
        if name in (*CONFIGURATIONS, "one_layer", "attention_only"):
            found[claim_id("grok", name)] = Measurement(row["grok"], note="never" if math.isnan(row["grok"]) else "")
        if str(name).startswith("mlp_only"):
            found[str(name)] = Measurement(
                float(math.isnan(row["grok"])), note="" if math.isnan(row["grok"]) else f"groks at step {row['grok']:,.0f}"
            )
        if name in VARIANTS:
            found["lead_two_layers" if name in CONFIGURATIONS else claim_id("lead", name)] = Measurement(row["lead_1"], note=note)
        if name == "multiplication":
            by_group = _note(row)
            found["lead_multiplication"] = Measurement(row["residue_lead_1"], note=f"{_note(row, 'residue_')}; over discrete logarithms, {by_group}")
    return found


def _note(row: pd.Series, prefix: str = "") -> str:
    """What the other K say, and how far FSD comes."""
    leads = {top: row[f"{prefix}lead_{top}"] for top in TOPS}
    words = [f"lead {'does not exist' if math.isnan(lead) else f'{lead:+,.0f}'} at K = {top}" for top, lead in leads.items()]
    return f"FSD at most {row[f'{prefix}peak_1']:.2f} until grokking; {', '.join(words)}"


def measure_configurations(main: pd.DataFrame) -> dict[str, Measurement]:
    """What the configurations say together."""
    n = len(main)
    close = (main["filtered"] - main["grok"]).abs() <= GRID
    five = main["k"][[name for name in main.index if str(name).startswith("p97-")]].dropna()
    found = {
        "precedes": share(main["lead_1"] > 0, f"never: {main['sync_1'].isna().sum()} of {n}"),
        "filtered_with_grok": share(close, f"filtered loss never falls: {main['filtered'].isna().sum()} of {n}"),
        "rank_falls": share(main["rank_50_grok"] < main["rank_50_early"]),
        "rank_50": averaged(main["rank_50_grok"]),
        "rank_90": averaged(main["rank_90_grok"]),
        "frequencies": Measurement(float(five.nunique()), n=len(five), note=", ".join(f"{k:.0f}" for k in five)),
        **{f"ahead_of_{loss}": averaged(main[loss] - main["sync_1"]) for loss in ("filtered", "restricted", "excluded")},
    }
    if main.dropna(subset="lead_1")["p"].nunique() > 1:
        leads = lead_times(main["sync_1"], main["grok"], cluster=main["p"], rng=np.random.default_rng(0))
        counts = f"{leads.n_positive} before, {leads.n_negative} after, {leads.n_ties} tied, {leads.n_measure_never} grok without"
        others = ", ".join(f"{main[f'lead_{top}'].mean():+,.0f} ({main[f'lead_{top}'].notna().sum()} runs) at K = {top}" for top in TOPS[1:])
        n_leads = int(main["lead_1"].notna().sum())
        found["mean_lead"] = Measurement(*leads.mean, n=n_leads, note=f"bootstrap over primes; {others}")
        found["sign_test"] = Measurement(leads.p_two_sided, n=n_leads, note=counts)
        found["sign_test_by_prime"] = Measurement(leads.p_two_sided_clustered, n=n_leads, note=counts)
    return found


def measure_s5(events: pd.DataFrame) -> dict[str, Measurement]:
    """Leads on S5 and what dominates there; nothing without runs."""
    if events.empty:
        return {}
    n, leads = len(events), events["lead_1"].dropna()
    others = ", ".join(f"{events[f'lead_{top}'].mean():+,.0f} at K = {top}" for top in IRREP_TOPS[1:])
    start = f"FSD before training: {', '.join(f'{value:.2f}' for value in events['start_1'])}"
    return {
        "s5_leads": Measurement(float(leads.min()), float(leads.min()), float(leads.max()), n, start),
        "s5_precedes": share(events["lead_1"] > 0, f"never: {events['sync_1'].isna().sum()} of {n}"),
        "s5_mean_lead": Measurement(float(leads.mean()), n=len(leads), note=f"mean {others}"),
        "s5_grok": averaged(events["grok"]),
        "s5_irreps": share(events["irrep"].isin(S5_IRREPS), ", ".join(events["irrep"])),
    }


def measure_significance(tests: pd.DataFrame) -> dict[str, Measurement]:
    """The largest p-values; none where nothing synchronises."""
    return {name: Measurement(float(tests[name].max()), n=len(tests)) for name in ("p_permutation", "p_shuffle") if len(tests)}


def measure_table_5(table: pd.DataFrame) -> dict[str, Measurement]:
    """Norms step by step, and how far ranks and accuracies are off at most."""
    found = {f"norm_{step}": Measurement(norm) for step, norm in table["norm"].items()}
    for key, name, paper in (
        ("table_5_rank_50", "rank_50", "paper_rank"),
        ("table_5_rank_90", "rank_90", "paper_rank"),
        ("table_5_accuracy", "accuracy", "paper_accuracy"),
    ):
        found[key] = Measurement(float((table[name] - table[paper]).abs().max()), note="ours " + "/".join(f"{value:.3g}" for value in table[name]))
    return found


def measure_ablation(table: pd.DataFrame) -> dict[str, Measurement]:
    """Accuracy at grokking without each layer's output."""
    if "grok" not in table:
        return {claim_id("zero", name): Measurement(math.nan, note="never groks") for name in runs.ABLATED}
    return {claim_id("zero", name): Measurement(row["grok"], note=f"{row['end']:.1f} % at the end") for name, row in table.iterrows()}


# --- the fork law --------------------------------------------------------------------------------------------------------------------


FORKED_ELSEWHERE = {
    1: "",
    5: "; at K = 1 FSD does not reach 0.80 before grokking, so the fork is at K = 5",
    0: "; FSD does not reach 0.80 before grokking at any K, so the fork is halfway to grokking",
}


def fitted(draws: pd.DataFrame) -> ForkLaw | None:
    """The law at each prime with draws that grok at two λ or more; None without any."""
    grokking = draws[~draws["censored"].astype(bool)]
    enough = grokking.groupby("p")["weight_decay"].nunique() > 1
    usable = draws[draws["p"].isin(enough.index[enough])]
    if usable.empty:
        return None
    return fork_law(usable["weight_decay"], usable["delay"], usable["p"], usable["censored"], rng=np.random.default_rng(0))


def delays(draws: pd.DataFrame) -> pd.DataFrame:
    """Steps to grokking by p and λ, over the draws that grok, beside the paper's."""
    by = draws.assign(delay=draws["delay"].where(~draws["censored"].astype(bool))).groupby(["p", "weight_decay"])
    table = by.agg(fork_at=("fork_at", "first"), mean=("delay", "mean"), sd=("delay", "std"), draws=("seed", "size"), never=("censored", "sum"))
    table["paper"] = [DELAYS.get(int(p), {}).get(int(decay), "") for p, decay in table.index]
    return table


def measure_forks(draws: pd.DataFrame, law: ForkLaw | None, main: pd.DataFrame) -> dict[str, Measurement]:
    """Constants of the law, whether Δt falls with λ, and what never groks."""
    found: dict[str, Measurement] = {}
    for p in DELAYS if "p97-s42" in main.index else ():
        own = draws[draws["p"] == p]
        fit = None if law is None else law.groups.get(p)
        names = [f"fork_{constant}_{p}" for constant in ("mean", "least_squares", "r2")]
        if fit is None:
            why = "the run never groks: nowhere to fork" if own.empty else "draws grok at fewer than two λ"
            found |= {name: Measurement(math.nan, n=len(own), note=why) for name in names}
            continue
        at = f"forked at step {own['fork_at'].iloc[0]:,}, {fit.n_never} of {fit.n_draws} draws never grok"
        at += FORKED_ELSEWHERE[int(own["top"].iloc[0])]
        values = (Measurement(*fit.mean_product), Measurement(*fit.least_squares), Measurement(fit.r2_of_means["mean_product"]))
        others = ("", "", f"; of least squares {fit.r2_of_means['least_squares']:.2f}; trend p = {fit.p_trend:.2g}")
        found |= {
            name: Measurement(value.value, value.low, value.high, fit.n_draws, at + more)
            for name, value, more in zip(names, values, others, strict=True)
        }
    return found | _measure_draws(draws)


def _measure_draws(draws: pd.DataFrame) -> dict[str, Measurement]:
    if draws.empty:
        return {}
    never = draws["censored"].astype(bool)
    means = draws[~never].groupby(["p", "weight_decay"])["delay"].mean()
    delays_of = [means[means.index.get_level_values("p") == p].to_numpy() for p in draws["p"].unique()]
    falls = [len(delay) > 1 and bool((np.diff(delay) < 0).all()) for delay in delays_of]
    extreme = (draws["p"] == 131) & (draws["weight_decay"] == 5)
    norm = draws["norm"].dropna()
    found = {
        "fork_falls": Measurement(float(np.mean(falls)), n=len(falls), note="over the draws that grok, at two λ or more"),
        "fork_never": share(never[~extreme], "followed for 6,000/λ + 1,000 steps"),
        "fork_norm": averaged(norm),
        "fork_norm_cv": Measurement(float(norm.std() / norm.mean()), n=len(norm)),
    }
    if extreme.any():
        found["fork_never_131"] = share(never[extreme], "followed for 2,200 steps")
    return found


# --- tables and figures --------------------------------------------------------------------------------------------------------------


def _beside_the_paper(events: pd.DataFrame) -> pd.DataFrame:
    published = pd.DataFrame.from_dict({name: row._asdict() for name, row in CONFIGURATIONS.items()}, orient="index")
    return events.join(published.add_prefix("paper_"))


def leads(main: pd.DataFrame) -> go.Figure:
    """The lead of each configuration at each K, beside the paper's."""
    names = np.array([str(name) for name in main.index])
    dots = [points(names, main[f"lead_{top}"].to_numpy(), f"ours, K = {top}", i) for i, top in zip((0, 5, 3), TOPS, strict=True)]
    published = np.array([CONFIGURATIONS[name].grok - CONFIGURATIONS[name].sync if name in CONFIGURATIONS else math.nan for name in names])
    dots.append(points(names, published, "paper", 1, "diamond-open"))
    never = ", ".join(name for name, lead in zip(names, main["lead_1"], strict=True) if math.isnan(lead))
    caption = "Steps from synchronisation to grokking; above 0, synchronisation comes first." + (f" No lead at K = 1: {never}." if never else "")
    return draw("Leads over grokking", caption, dots, "configuration", "lead (steps)")
