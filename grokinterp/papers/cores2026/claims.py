"""What "Transformers converge to invariant algorithmic cores" (arXiv 2602.22600) reports, and its claims; see `cores2026.py`.

The paper's text and its code, run, differ in places; where a number is the code's, the claim says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from grokinterp.papers.claims import ANYWHERE, FULL, Budget, Claim, within

INF = math.inf


# --- Markov chains -----------------------------------------------------------------------------------------------------------------

SEEDS = (0, 100, 200)
PAIRS = ((0, 100), (0, 200), (100, 200))
REMOVED = {0: 0.261, 100: 0.237, 200: 0.247}
THIRD = {0: 0.51, 100: 0.49, 200: 0.48}
OVERLAPS = dict(zip(PAIRS, (0.027, 0.031, 0.027), strict=True))
CORRELATIONS = dict(zip(PAIRS, ((0.999, 0.999, 0.927), (0.999, 0.999, 0.949), (0.999, 0.999, 0.958)), strict=True))
ARMS = {  # another normalisation, read at either side of the final LayerNorm
    "pre_normalized": "pre-LN, behind the final LayerNorm's division",
    "pre_residual": "pre-LN, at the last residual stream",
}


def pair_name(pair: tuple[int, int]) -> str:
    """Of two seeds, in a claim's id."""
    return f"{pair[0]}_{pair[1]}"


def _markov_claims() -> Iterator[Claim]:
    of = "Markov chain, post-LN:"
    yield Claim("markov_rank", f"{of} dimensions of the core at energy 0.999, mean over seeds", "3", (3, 3))
    yield Claim("markov_base", f"{of} accuracy of the whole model, mean over seeds", "0.748", (0.738, 0.758))
    yield Claim("markov_keep", f"{of} accuracy with only the core, mean over seeds", "0.748", (0.738, 0.758))
    lost = f"{of} accuracy lost with only the core, largest over seeds"
    yield Claim("markov_keep_gap", lost, "0.000", (-0.002, 0.002), budgets=ANYWHERE)
    for seed, accuracy in REMOVED.items():
        yield Claim(f"markov_remove_{seed}", f"{of} accuracy without the core, seed {seed} (chance 0.25)", f"{accuracy}", (0.22, 0.28))
    for pair, overlap in OVERLAPS.items():
        yield Claim(f"markov_overlap_{pair_name(pair)}", f"{of} overlap of the cores of seeds {pair[0]} and {pair[1]}", f"{overlap}", (0, 0.1))
    yield Claim("markov_angles_min", f"{of} smallest principal angle of any two cores", "76", (60, 90), "degrees")
    yield Claim("markov_angles_max", f"{of} largest principal angle of any two cores", "89", (80, 90), "degrees")
    for pair, correlations in CORRELATIONS.items():
        for i, correlation in enumerate(correlations, 1):
            sentence = f"{of} canonical correlation {i} of seeds {pair[0]} and {pair[1]} on the same sequences"
            yield Claim(f"markov_cca_{pair_name(pair)}_{i}", sentence, f"{correlation}", (0.9, 1))
    yield Claim("markov_real", f"{of} real part of the complex pair of eigenvalues, mean over seeds (chain: 0.75)", "0.75", (0.7125, 0.7875))
    yield Claim("markov_imaginary", f"{of} its imaginary part (chain: 0.25)", "0.25", (0.2375, 0.2625))
    for seed, third in THIRD.items():
        yield Claim(f"markov_third_{seed}", f"{of} third eigenvalue, seed {seed} (chain: 0.5)", f"{third}", (0.475, 0.525))
    yield Claim("markov_r2", f"{of} R² of the core's dynamics over the best predictor's, smallest over seeds", "> 0.98", (0.97, INF))
    yield Claim("markov_weights", f"{of} cosine of the weights of two models, mean over pairs", "near 0", (-0.1, 0.1))


def _pre_ln_claims() -> Iterator[Claim]:
    """What of this does not depend on the normalisation: findings, since the paper's models are post-LN."""
    yield from (replace(claim, kind="finding") for claim in _of_arms())


def _of_arms() -> Iterator[Claim]:
    for arm, words in ARMS.items():
        of = f"Markov chain, {words}:"
        yield Claim(f"{arm}_rank", f"{of} dimensions of the core, mean over seeds", "3 (post-LN)", (3, 3))
        yield Claim(f"{arm}_keep_gap", f"{of} accuracy lost with only the core, largest over seeds", "0.000 (post-LN)", (-0.002, 0.002))
        yield Claim(f"{arm}_remove", f"{of} accuracy without the core, mean over seeds", "0.237 … 0.261 (post-LN)", (0.22, 0.28))
        yield Claim(f"{arm}_overlap", f"{of} overlap of two cores, largest over pairs", "0.031 (post-LN)", (0, 0.1))
        yield Claim(f"{arm}_cca", f"{of} third canonical correlation, smallest over pairs", "0.927 (post-LN)", (0.9, 1))
        yield Claim(f"{arm}_real", f"{of} real part of the complex pair of eigenvalues, mean over seeds", "0.75 (post-LN)", (0.7125, 0.7875))
        yield Claim(f"{arm}_imaginary", f"{of} its imaginary part", "0.25 (post-LN)", (0.2375, 0.2625))
        yield Claim(f"{arm}_third", f"{of} third eigenvalue, mean over seeds", "0.48 … 0.51 (post-LN)", (0.475, 0.525))
        yield Claim(f"{arm}_r2", f"{of} R² of the dynamics over the best predictor's, smallest over seeds", "> 0.98 (post-LN)", (0.97, INF))


# --- modular addition --------------------------------------------------------------------------------------------------------------

P = 53
FREQUENCIES = P // 2
GROK_EPOCH = 800


def _modular_claims() -> Iterator[Claim]:
    of = f"addition mod {P}:"
    yield Claim("modular_grok", f"{of} epoch at which test accuracy reaches 0.99, mean over seeds", "800", within(GROK_EPOCH), "epochs")
    yield Claim("modular_size", f"{of} size of the core at grokking, mean over seeds", "≈ 15 (code: 11, 15, 19)", within(15))
    lost = f"{of} accuracy lost at grokking with only the core of this size, largest over seeds"
    yield Claim("modular_keep_gap", lost, "sufficient", (-INF, 0.01), budgets=ANYWHERE)
    yield Claim("modular_remove", f"{of} accuracy at grokking without this core, largest over seeds (2/p = 0.038)", "necessary", (0, 2 / P))
    yield Claim("modular_size_2000", f"{of} size of the core at epoch 2,000, mean over seeds", "code: 14, 15, 23", within(17.3))
    yield Claim("modular_grows", f"{of} size at the end over size at grokking under λ = 1, mean over seeds", "60/15 at epoch 20,000", (1.2, INF))
    compact = f"{of} size at the end over size at grokking in the branch with λ = 0, mean over seeds"
    yield Claim("modular_compact", compact, "compact", (0, 1.2))
    yield Claim("modular_apart", f"{of} share of seeds whose core ends larger under λ = 1 than in its branch with λ = 0", "1", (1, 1))
    yield Claim("modular_necessary", f"{of} necessary size at the end over that at grokking under λ = 1, mean over seeds", "grows", (1.2, INF))
    yield Claim("modular_sufficient", f"{of} sufficient size at the end over that at grokking under λ = 1, mean over seeds", "stays", (1 / 1.2, 1.2))
    yield Claim("modular_size_end", f"{of} size of the core at epoch 20,000 under λ = 1, mean over seeds", "≈ 60", within(60))
    yield Claim("modular_size_free", f"{of} size of the core at epoch 20,000 in the branch with λ = 0, mean over seeds", "compact (≈ 15)", within(15))
    yield Claim("modular_sufficient_end", f"{of} sufficient size at epoch 20,000 under λ = 1, mean over seeds", "stays (≈ 15)", within(15))
    yield Claim("modular_modes", f"{of} modes at grokking, mean over seeds", "code: 5, 7, 8", within(6.7))
    yield Claim("modular_modes_2000", f"{of} modes at epoch 2,000, mean over seeds", "code: 7, 7, 8", within(7.3))
    yield Claim("modular_modes_end", f"{of} modes at epoch 20,000 under λ = 1, mean over seeds", "approach 26", (20, FREQUENCIES))
    in_sample = f"{of} R² of the map from one answer to the next on the answers it was fitted to, at initialisation"
    yield Claim("modular_r2_start", in_sample, "0.84 (computed)", (0.7, 1), kind="calibration")
    held_out = f"{of} R² of that map on held-out answers, mean over seeds,"
    yield Claim("modular_held_out_before", f"{held_out} once the training pairs are learned", "not reported", (-INF, 0.5), kind="finding")
    yield Claim("modular_held_out_grok", f"{held_out} at grokking", "not reported", (0.8, 1), kind="finding")
    shuffled = f"{of} R² of that map on held-out answers after shuffling them, largest over shuffles and seeds"
    yield Claim("modular_null_grok", shuffled, "not reported", (-INF, 0.2), kind="finding")


# --- grokking time -----------------------------------------------------------------------------------------------------------------

DECAYS = (0.3, 0.5, 1.0, 1.5, 2.0, 3.0)
PRIMES = (31, 43, 53, 61, 79, 89, 101)
EXPONENT, OMEGA, P_CRIT = -1.02, 2_770, 23


def published_time(p: int) -> float:
    """τ = −Ω ln(1 − p_crit/p) at λ = 1 with the paper's constants, in steps; infinite up to p_crit."""
    return -OMEGA * math.log(1 - P_CRIT / p) if p > P_CRIT else INF


def _time_claims() -> Iterator[Claim]:
    yield Claim("time_exponent", "grokking time falls as a power of λ: the exponent", "−1.02", (1.15 * EXPONENT, 0.85 * EXPONENT))
    yield Claim("time_omega", "grokking time in p is −Ω ln(1 − p_crit/p): Ω", "2,770", within(OMEGA), "steps")
    yield Claim("time_p_crit", "p_crit in this law", "23", within(P_CRIT, 1.25))
    yield Claim("time_r2", "R² of this law over the mean time of each p", "> 0.99", (0.99, 1))
    yield Claim("time_never", "share of these runs that grok", "1", (1, 1))
    norm = "theory: ‖ψ‖² = 3p/4 with ψ_k = 1 − cos(2πk/p) over the frequencies, largest relative error over these p (arithmetic)"
    yield Claim("theory_norm", norm, "0", (0, 1e-9), budgets=ANYWHERE)
    spread = "theory: the solution of minimum norm spreads over all modes, α* ∝ ψ: smallest cosine with ψ of random α after decay at a held margin"
    yield Claim("theory_spread", f"{spread} ψ·α = 1, over these p", "1", (1 - 1e-9, 1 + 1e-9), budgets=ANYWHERE)


# --- agreement ---------------------------------------------------------------------------------------------------------------------


class Agreement(NamedTuple):
    """A row of the paper's table of language models: AUC at the layer of the strongest flip, and the spectral gap."""

    layer: str
    base: float
    keep: float
    remove: float
    flip: float
    gap: str


MODELS = {
    "gpt2": ("GPT-2 Small", Agreement("11 of 12", 0.911, 0.994, 0.241, 0.038, "40")),
    "gpt2_medium": ("GPT-2 Medium", Agreement("22 of 24", 0.934, 0.997, 0.217, 0.023, "44")),
    "gpt2_large": ("GPT-2 Large", Agreement("36 of 36", 0.921, 0.975, 0.244, 0.021, "2.8e10")),
    "llama": ("LLaMA-3.1-8B", Agreement("28 of 32", 0.808, 0.918, 0.209, 0.092, "266")),
    "gemma": ("Gemma-2-9B", Agreement("42 of 42", 0.886, 0.978, 0.102, 0.035, "133")),
    "qwen": ("Qwen2.5-32B", Agreement("62 of 64", 0.890, 0.949, 0.213, 0.076, "531")),
}
SHARED = {  # Spearman and Pearson of the core coordinates on the same prompts
    "large_medium": ("Large and Medium", 0.923, 0.951),
    "large_small": ("Large and Small", 0.878, 0.924),
    "medium_small": ("Medium and Small", 0.919, 0.968),
}


GPT2 = ("gpt2", "gpt2_medium", "gpt2_large")
NEEDS_GPT2 = "the published weights of GPT-2"


def _agreement_claims() -> Iterator[Claim]:
    """What needs pretrained language models: of GPT-2 under "full", of larger ones not run."""
    for key, (name, row) in MODELS.items():
        budgets: tuple[Budget, ...] = FULL if key in GPT2 else ()
        needs = f"the published weights of {name}"
        of = f"{name}, agreement core of rank 1 at layer {row.layer}: AUC of the margin,"
        accepted = {"base": (row.base - 0.05, row.base + 0.05), "keep": (row.base, 1.0), "remove": (0.0, 0.5), "flip": (0.0, 0.15)}
        for what, words in {"base": "as it is", "keep": "only the core", "remove": "without the core", "flip": "core flipped"}.items():
            yield Claim(f"agreement_{key}_{what}", f"{of} {words}", f"{getattr(row, what)}", accepted[what], budgets=budgets, needs=needs)
        yield Claim(f"agreement_{key}_gap", f"{name}: spectral gap of the core there", row.gap, (10, INF), budgets=budgets, needs=needs)
    for key, (name, spearman, pearson) in SHARED.items():
        for what, value in (("spearman", spearman), ("pearson", pearson)):
            sentence = f"core coordinates of GPT-2 {name} on the same prompts: {what.title()} correlation"
            yield Claim(f"agreement_{key}_{what}", sentence, f"{value}", (value - 0.1, 1), budgets=FULL, needs=NEEDS_GPT2)
    for what, low, high in (("spearman", 0.585, 0.934), ("pearson", 0.616, 0.943)):
        sentence = f"core coordinates of models of two families on the same prompts: {what.title()} correlation"
        yield Claim(f"agreement_families_{what}", sentence, f"{low} … {high}", (low, 1), budgets=(), needs="the published weights of all six models")
    for verb, low, high in (("is", 0.51, 0.01), ("are", 0.06, 0.71)):
        accepted_after = (0.0, 0.1) if verb == "is" else (0.5, 1.0)
        sentence = f'"The key next to the cabinets": P({verb}) when the core is flipped, {low} before'
        yield Claim(f"agreement_prompt_{verb}", sentence, f"{high}", accepted_after, budgets=FULL, needs=NEEDS_GPT2)
    knob = "GPT-2: the margin is linear in the core coordinate: R², smallest over sizes"
    yield Claim("agreement_knob", knob, "linear", (0.8, 1), budgets=FULL, needs=NEEDS_GPT2)
    tests = "GPT-2: prompt-level tests that the flip lowers the margin for the right number, Wilcoxon per model combined by Fisher: p"
    yield Claim("agreement_tests", tests, "significant", (0, 0.05), budgets=FULL, needs=NEEDS_GPT2)
    generation = "text generated under the flip agrees with the other number: share of verbs"
    yield Claim("agreement_generation", generation, "inverted", (0.5, 1), budgets=(), needs="published weights, and a reader of the generated text")


def _tiny_claims() -> Iterator[Claim]:
    """The same on GPT-2's architecture in small, trained here on a generated grammar: findings; the numbers beside them are of GPT-2 Small."""
    yield from (replace(claim, kind="finding") for claim in _of_tiny())


def _of_tiny() -> Iterator[Claim]:
    of = "model of a grammar, agreement core of rank 1 at the layer chosen on the extraction half:"
    worst = "smallest over models"
    most = "largest over models"
    accepted = {"base": (0.99, 1.0), "keep": (0.95, 1.0), "remove": (0.0, 0.6), "flip": (0.0, 0.1)}
    words = {"base": "as it is", "keep": "only the core", "remove": "without the core", "flip": "core flipped"}
    published = MODELS["gpt2"][1]
    for mode, interval in accepted.items():
        paper = f"{getattr(published, mode)} (GPT-2)"
        yield Claim(f"tiny_{mode}", f"{of} AUC on nouns not extracted from, {words[mode]}, {worst if interval[1] == 1 else most}", paper, interval)
    yield Claim("tiny_random", f"{of} AUC lost when a random direction is removed or flipped instead, {most}", "no such control", (-INF, 0.02))
    for mode, interval in accepted.items():
        sentence = f"{of} AUC on sentence frames not extracted from, each in turn and all together, {words[mode]}"
        yield Claim(f"tiny_frames_{mode}", sentence, "frames not held out", interval)
    yield Claim(
        "tiny_frames_random", f"{of} AUC lost on these frames when a random direction is removed or flipped instead", "no such control", (-INF, 0.02)
    )
    yield Claim(
        "tiny_coordinates",
        "core coordinates of two such models on the same prompts: Pearson correlation, smallest over pairs",
        "0.924 … 0.968 (GPT-2s)",
        (0.9, 1),
    )
    yield Claim("tiny_knob", f"{of} the margin is linear in the core coordinate: R², {worst}", "linear", (0.8, 1))
    written = "first sentences these models write,"
    yield Claim("tiny_agrees", f"{written} not edited: share whose verb has the head's number, {worst}", "not reported", (0.9, 1))
    yield Claim(
        "tiny_inverted",
        f"{written} core flipped: share that is grammatical but for the verb's number, which is the other one, {worst}",
        "inverted",
        (0.9, 1),
    )
    yield Claim("tiny_grammatical", f"{written} core flipped: share that is grammatical, agreement aside, {worst}", "not reported", (0.9, 1))
    yield Claim("tiny_tests", "prompt-level tests on these models, combined: p", "significant", (0, 0.05))


AGREEMENT = tuple(_agreement_claims())
TINY = tuple(_tiny_claims())
CLAIMS = (*_markov_claims(), *_pre_ln_claims(), *_modular_claims(), *_time_claims(), *TINY, *AGREEMENT)
