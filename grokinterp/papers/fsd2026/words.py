"""What the reproduction of arXiv 2606.12966 found, in sentences that take their numbers from the measurements."""

from __future__ import annotations

from functools import partial

from grokinterp.papers.fsd2026.claims import CLAIMS, CONFIGURATIONS, name_of
from grokinterp.papers.sentences import Sentence, accepted, told

OPENING = (
    (
        Sentence(
            "FSD with K = 1, the paper's, does not announce grokking in our runs: it reaches 0.80 first in {precedes:.0%} of the {precedes.n} "
            "configurations, and the mean lead is {mean_lead} steps [{mean_lead.low}, {mean_lead.high}], where the paper has it first in all nine "
            "and 1,722 steps ahead.",
            lambda values: values["precedes"] < 1 and values["mean_lead"] < 1_222,
        ),
        Sentence(
            "FSD reaches 0.80 before grokking in {precedes:.0%} of the {precedes.n} configurations, {mean_lead} steps ahead on average "
            "(published 1,722)."
        ),
    ),
    (
        Sentence(
            "Our models grok when the paper's do, all nine within a factor of 1.5 (p = 97, seed 42: {grok_p97_s42} steps, published 4,000), so what "
            "differs is FSD and not when they grok.",
            accepted(CLAIMS, *(name_of("grok", name) for name in CONFIGURATIONS)),
        ),
    ),
    (
        Sentence(
            "The paper's test shuffles dominant frequencies across neurons, which leaves FSD as it is, and so can never reject (p = "
            "{p_shuffle}); with "
            "each neuron's signal permuted FSD at its onset is not chance (p = {p_permutation}).",
            lambda values: values["p_shuffle"] == 1 and values["p_permutation"] < 0.05,
        ),
    ),
    (
        Sentence(
            "After a fork grokking comes sooner the larger λ, at every prime; Δt = C/λ itself fits p = 97 (R² {fork_r2_97:.2f}) better than p = 53 "
            "({fork_r2_53:.2f}) and p = 131 ({fork_r2_131:.2f}).",
            lambda values: values["fork_falls"] == 1 and values["fork_r2_97"] > max(values["fork_r2_53"], values["fork_r2_131"]),
        ),
        Sentence("The law Δt = C/λ has an R² of {fork_r2_53:.2f} at p = 53, {fork_r2_97:.2f} at 97 and {fork_r2_131:.2f} at 131."),
    ),
    (
        Sentence(
            "On S5 FSD over irreducible representations leads in all {s5_precedes.n} seeds, by {s5_mean_lead} steps on average (published 2,417).",
            lambda values: values["s5_precedes"] == 1,
        ),
        Sentence("On S5 FSD leads in {s5_precedes:.0%} of the {s5_precedes.n} seeds, by {s5_mean_lead} steps on average (published 2,417)."),
    ),
)

opening = partial(told, OPENING)
