"""What "Circuit Synchronization Precedes Generalization" (arXiv 2606.12966) reports, and its claims; see `fsd2026.py`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import pandas as pd

from grokinterp.papers.claims import ANYWHERE, AT_SIZE, Budget, Claim, within

GRID = 500  # steps between the paper's measurements


class Published(NamedTuple):
    """A row of the paper's main table: steps, median rank at first and at grokking, dominant frequency."""

    grok: int
    sync: int
    filtered: int
    rank: str
    k: int


CONFIGURATIONS = {
    "p97-s42": Published(4_000, 1_500, 4_000, "6→1", 5),
    "p97-s123": Published(3_000, 1_000, 3_000, "5→1", 14),
    "p97-s0": Published(4_000, 1_000, 4_000, "6→1", 11),
    "p97-s1": Published(3_000, 2_500, 3_000, "6→1", 6),
    "p97-s2": Published(3_000, 2_500, 3_000, "5→1", 39),
    "p53-s42": Published(5_000, 2_000, 5_000, "3→1", 3),
    "p71-s42": Published(3_500, 2_000, 3_500, "4→1", 21),
    "p113-s42": Published(2_500, 1_500, 4_000, "7→2", 9),
    "p131-s42": Published(2_500, 1_000, 2_500, "5→1", 54),
}
TABLE_5 = pd.DataFrame(
    {
        "paper_accuracy": [0.006, 0.106, 0.020, 0.174, 0.053, 0.275, 0.352, 0.997, 1.0],
        "paper_rank": [6, 4, 3, 2, 1, 1, 1, 1, 1],
        "paper_norm": [76.7, 51.9, 37.8, 30.6, 28.6, 26.7, 24.4, 22.9, 23.9],
    },
    index=pd.Index([500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500, 4_000, 5_000], name="step"),
)
DELAYS = {  # steps from the fork to grokking, mean±sd, by p and λ
    53: {1: "4,100±369", 2: "2,200±190", 3: "1,540±49", 5: "1,200±63"},
    97: {1: "2,425±249", 2: "1,300±187", 3: "850±87", 5: "667±125"},
    131: {1: "1,680±40", 2: "900±0", 3: "600±0", 5: "never"},
}
CONSTANTS = {53: (4_780, 4_249, 0.89), 97: (2_727, 2_492, 0.94), 131: (1_760, 1_712, 0.99)}  # mean λΔt, least squares (computed), R²
ABLATION = {"none": 99.8, "block-0 MLP": 88.0, "block-1 MLP": 11.8, "block-0 attention": 10.8, "block-1 attention": 5.4}
ABLATION_ACCEPT = {"none": (95.0, 100.0), "block-0 MLP": (73.0, 100.0)}  # and at most 30 % for what the paper finds indispensable
S5_IRREPS = ("(2,1,1,1)", "(4,1)", "(3,2)")
VARIANTS: dict[
    str, tuple[str, int | None, int, tuple[Budget, ...]]
] = {  # name: (in words, published grok if it is another run, published lead, budgets)
    "p97-s42": ("the 2-layer model, as in the table of architectures", None, 1_500, AT_SIZE),
    "one_layer": ("a 1-layer model", 4_500, -1_000, AT_SIZE),
    "attention_only": ("an attention-only model", 4_000, 3_000, AT_SIZE),
    "subtraction-s42": ("subtraction (first run)", None, 1_000, AT_SIZE),
    "subtraction-s123": ("subtraction (second run)", None, 2_000, AT_SIZE),
}


# --- claims ------------------------------------------------------------------------------------------------------------------------


def near_lead(lead: int) -> tuple[float, float]:
    """Within one interval of the paper's grid, and of the same sign."""
    low, high = lead - GRID, lead + GRID
    return (max(1, low), high) if lead > 0 else (low, min(-1, high))


def name_of(kind: str, of: object) -> str:
    """A claim's id, like ``lead_p97_s42``."""
    return f"{kind}_{of}".replace("-", "_").replace(" ", "_")


def _configuration_claims() -> Iterator[Claim]:
    for name, row in CONFIGURATIONS.items():
        words = name.replace("p", "p = ").replace("-s", ", seed ")
        lead = row.grok - row.sync
        yield Claim(name_of("grok", name), f"{words}: test accuracy reaches 0.95", f"{row.grok:,}", within(row.grok), "steps")
        yield Claim(name_of("sync", name), f"{words}: FSD reaches 0.80", f"{row.sync:,}", within(row.sync), "steps")
        yield Claim(name_of("lead", name), f"{words}: lead of FSD over grokking", f"{lead:+,}", near_lead(lead), "steps")


def _summary_claims() -> Iterator[Claim]:
    yield Claim("precedes", "share of all configurations in which FSD reaches 0.80 before grokking", "1", (1, 1), budgets=ANYWHERE)
    yield Claim("mean_lead", "mean lead over the configurations that have one", "+1,722", near_lead(1_722), "steps")
    yield Claim("sign_test", "p-value of a two-sided sign test of the leads, runs taken as independent", "0.004", (0, 0.05))
    by_prime = "p-value of a sign test of the leads, runs of one prime kept together; five primes allow 0.0625 at best"
    yield Claim("sign_test_by_prime", by_prime, "not clustered", (0, 0.0625), kind="finding")
    baseline = "share of configurations whose filtered loss falls below 0.5 nats within 500 steps of grokking"
    yield Claim("filtered_with_grok", baseline, "0.89", (0.7, 1))
    yield Claim("ahead_of_filtered", "mean number of steps by which FSD precedes the filtered loss", "1,889", near_lead(1_889), "steps")
    for loss, what in (("restricted", "falls below 0.5 nats"), ("excluded", "rises above ln p")):
        sentence = f"mean number of steps by which FSD comes before Nanda's {loss} loss {what}"
        yield Claim(f"ahead_of_{loss}", sentence, "not compared", (1, math.inf), "steps", kind="finding")
    everywhere = "FSD read at eight sites of both blocks with K = 1, 3, 5: "
    agree = "the largest share of configurations whose published lead one of these readings meets"
    yield Claim("sites_agree", everywhere + agree, "site not named", (1, 1), kind="finding")
    precede = "readings with which FSD reaches 0.80 before grokking in every configuration"
    yield Claim("sites_precede", everywhere + precede, "site not named", (1, math.inf), kind="finding")
    yield Claim("rank_falls", "share of configurations whose median rank (50 %) falls from step 500 to grokking", "1", (1, 1))
    yield Claim("rank_50", "median rank at grokking, components for 50 % of the variance, mean", "1.1", (1, 2))
    yield Claim("rank_90", "median rank at grokking, components for 90 % of the variance as stated, mean", "1.1", (1, 2))
    yield Claim("frequencies", "number of different dominant frequencies among the five seeds at p = 97", "5", (4, 5))
    chance = "FSD at its onset against chance: largest p-value,"
    yield Claim("p_permutation", f"{chance} each neuron's signal permuted", "< 0.05", (0, 0.05), budgets=ANYWHERE)
    yield Claim("p_shuffle", f"{chance} by the paper's shuffle of neurons, which never changes FSD", "< 0.05", (0, 0.05), budgets=ANYWHERE)


def _table_5_claims() -> Iterator[Claim]:
    for step, norm in TABLE_5["paper_norm"].items():
        yield Claim(f"norm_{step}", f"norm of the weights of p = 97, seed 42 at step {step:,}", f"{norm}", (0.95 * norm, 1.05 * norm))
    ranks, accuracies = ("/".join(f"{value:g}" for value in TABLE_5[f"paper_{name}"]) for name in ("rank", "accuracy"))
    for share, stated in ((50, ""), (90, ", as stated")):
        sentence = f"median rank ({share} % of the variance{stated}) at the nine steps above: largest difference from the published ones"
        yield Claim(f"table_5_rank_{share}", sentence, ranks, (0, 1))
    yield Claim("table_5_accuracy", "test accuracy at the nine steps above: largest difference from the published ones", accuracies, (0, 0.1))


def _variant_claims() -> Iterator[Claim]:
    for name, (words, grok, lead, budgets) in VARIANTS.items():
        if grok is not None:
            yield Claim(name_of("grok", name), f"{words} (p = 97, seed 42) groks", f"{grok:,}", within(grok), "steps", budgets)
        key = "lead_two_layers" if name in CONFIGURATIONS else name_of("lead", name)
        yield Claim(key, f"lead in {words}, p = 97", f"{lead:+,}", near_lead(lead), "steps", budgets)
    multiplication = "lead in multiplication, p = 97, signals over residues: FSD comes long after grokking"
    yield Claim("lead_multiplication", multiplication, "−10,000", (-math.inf, -5_000), "steps", AT_SIZE)
    sees_nothing = "an MLP-only model never groks (1: it does not; it reads the last position, which holds only the separator)"
    yield Claim("mlp_only", sees_nothing, "never in 15,000", (1, 1))
    sees_both = "an MLP-only model that reads the mean over positions, so both operands, never groks (1: it does not)"
    yield Claim("mlp_only_pooled", sees_both, "not run; implied", (1, 1), kind="finding")
    for name, accuracy in ABLATION.items():
        sentence = f"accuracy on all pairs at grokking (p = 97, seed 42), with this set to zero: {name}"
        yield Claim(name_of("zero", name), sentence, f"{accuracy}", ABLATION_ACCEPT.get(name, (0, 30)), "%")


def _fork_claims() -> Iterator[Claim]:
    for p, (mean, least_squares, r2) in CONSTANTS.items():
        law = f"fork law Δt = C/λ at p = {p}"
        yield Claim(f"fork_mean_{p}", f"{law}: C as mean λΔt, as published", f"{mean:,}", within(mean, 1.25), "steps")
        computed = f"{law}: C by least squares, computed from the published means"
        yield Claim(f"fork_least_squares_{p}", computed, f"{least_squares:,}", within(least_squares, 1.25), "steps")
        yield Claim(f"fork_r2_{p}", f"{law}: R² of C/λ with the published C, over the mean Δt of each λ", f"{r2}", (0.8, 1))
    yield Claim("fork_falls", "share of primes at which the mean Δt falls whenever λ rises", "1", (1, 1), budgets=ANYWHERE)
    yield Claim("fork_never_131", "share of forks at p = 131 and λ = 5 that never grok", "1", (0.5, 1))
    yield Claim("fork_never", "share of all other forks that never grok", "0", (0, 0))
    yield Claim("fork_norm", "norm of the weights when a fork groks, mean", "23.5", within(23.5, 1.15))
    yield Claim("fork_norm_cv", "norm of the weights when a fork groks, coefficient of variation", "0.13", (0, 0.2))


def _s5_claims() -> Iterator[Claim]:
    yield Claim(
        "s5_leads",
        "S5: smallest lead of FSD over irreps (K = 1; in brackets, smallest and largest)",
        "+1,500 … +3,800",
        (1_000, 4_300),
        "steps",
    )
    yield Claim("s5_precedes", "S5: share of seeds with a positive lead", "1 (6/6)", (1, 1))
    yield Claim("s5_mean_lead", "S5: mean lead over the seeds that have one", "+2,417", near_lead(2_417), "steps")
    yield Claim("s5_grok", "S5: grokking, mean", "2,100 … 6,900", (within(2_100)[0], within(6_900)[1]), "steps")
    yield Claim("s5_irreps", "S5: share of seeds where one of these dominates at grokking", ", ".join(S5_IRREPS), (1, 1))


CLAIMS = (*_configuration_claims(), *_summary_claims(), *_table_5_claims(), *_variant_claims(), *_fork_claims(), *_s5_claims())
