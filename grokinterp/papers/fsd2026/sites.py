"""FSD at every place where a network of two blocks could be read, and for every K: does any of them give the published leads?

The paper names neither the layer nor the hook that it reads. All of this is chosen here, after the leads at block 0's neurons were known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
import xarray as xr

from grokinterp.measures.fsd import TOPS, fsd
from grokinterp.papers.claims import Measurement
from grokinterp.papers.fsd2026.claims import CONFIGURATIONS, near_lead
from grokinterp.papers.fsd2026.runs import GROK, SYNC, first
from grokinterp.papers.tables import RUN
from grokinterp.papers.training import measured
from grokinterp.snapshot import Snapshot
from grokinterp.training.runs import Run

SITES = tuple(f"blocks.{block}.{hook}" for block in (0, 1) for hook in ("hook_attn_out", "mlp.hook_post", "hook_mlp_out", "hook_resid_post"))


def fsd_everywhere(snapshot: Snapshot) -> xr.Dataset:
    """FSD by site and top (K) at each of `SITES`, as ``fsd_everywhere``; source: chosen here."""
    degrees = [fsd(snapshot, site=site)["fsd"] for site in SITES]
    return xr.Dataset({"fsd_everywhere": xr.concat(degrees, pd.Index(SITES, name="site"), combine_attrs="drop")})


def leads_everywhere(runs: Mapping[str, Run]) -> pd.DataFrame:
    """The lead of FSD over grokking in each run, at every site and K.

    Returns:
        A row a run (its name is the index), site and K: ``run``, its digest; ``site``; ``top``; ``sync`` and ``lead`` in steps, NaN for never.
    """
    rows = []
    for name, run in runs.items():
        dataset = measured(run, [fsd_everywhere], "fsd_everywhere").dataset
        grok = first(dataset["metric_test_accuracy"], GROK)
        for site in SITES:
            for top in TOPS:
                sync = first(dataset["fsd_everywhere"].sel(site=site, top=top), SYNC)
                rows.append({"name": name, RUN: run.config.digest, "site": site, "top": top, "sync": sync, "lead": grok - sync})
    return pd.DataFrame(rows).set_index("name") if rows else pd.DataFrame()


def beside_published(leads: pd.DataFrame) -> pd.DataFrame:
    """What each site and K says of all configurations, those first that agree with most of the published leads.

    Returns:
        By ``site`` and ``top``: ``runs``; ``leading``, in how many FSD comes first; ``mean_lead`` in steps over the runs that have one; ``agree``,
        in how many the lead lies within one interval of the paper's grid of the published one and has its sign.
    """
    published = {name: row.grok - row.sync for name, row in CONFIGURATIONS.items()}
    bounds = [near_lead(published[str(name)]) for name in leads.index]
    table = leads.assign(agrees=[low <= lead <= high for lead, (low, high) in zip(leads["lead"], bounds, strict=True)], leads=leads["lead"] > 0)
    by = table.groupby(["site", "top"])
    found = by.agg(runs=("lead", "size"), leading=("leads", "sum"), mean_lead=("lead", "mean"), agree=("agrees", "sum"))
    return found.sort_values(["agree", "leading"], ascending=False, kind="stable")


def measure_sites(table: pd.DataFrame) -> dict[str, Measurement]:
    """The most published leads that any of these readings meets, and how many readings put FSD first in every configuration."""
    if table.empty:
        return {}
    site, top = table.index[0]
    best, n = table.iloc[0], int(table["runs"].max())
    note = f"the best of {len(table)}: {site} at K = {top}, mean lead {_steps(best['mean_lead'])}"
    first_everywhere = table[table["leading"] == table["runs"]]
    places = "; ".join(f"{site} at K = {top} ({_steps(row['mean_lead'])})" for (site, top), row in first_everywhere.iterrows())
    return {
        "sites_agree": Measurement(float(best["agree"] / best["runs"]), n=n, note=note),
        "sites_precede": Measurement(float(len(first_everywhere)), n=n, note=places or "none"),
    }


def _steps(lead: float) -> str:
    return "none" if math.isnan(lead) else f"{lead:+,.0f} steps"
