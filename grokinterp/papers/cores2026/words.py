"""What the reproduction of arXiv 2602.22600 found, in sentences that take their numbers from the measurements."""

from __future__ import annotations

from functools import partial

from grokinterp.papers.cores2026.claims import CLAIMS, SEEDS
from grokinterp.papers.sentences import Sentence, accepted, told

_CHAIN = ("markov_rank", "markov_keep_gap", "markov_real", "markov_imaginary", *(f"markov_remove_{seed}" for seed in SEEDS))

OPENING = (
    (
        Sentence(
            "Models that learn a Markov chain hold it in {markov_rank} dimensions, with the chain's eigenvalues (real part {markov_real}, published "
            "0.75): with the core alone they lose nothing, without it they guess.",
            accepted(CLAIMS, *_CHAIN),
        ),
        Sentence(
            "Models that learn a Markov chain have cores of {markov_rank} dimensions; the real part of their eigenvalues is {markov_real} "
            "(published 0.75)."
        ),
    ),
    (
        Sentence(
            "The cores of two models point in different directions, if less so than published: those of seeds 0 and 100 overlap by "
            "{markov_overlap_0_100} (published 0.027), and the smallest angle is {markov_angles_min:.0f} degrees instead of 76.",
            lambda values: values["markov_overlap_0_100"] > 0.1 and values["markov_angles_min"] < 60,
        ),
        Sentence("The cores of seeds 0 and 100 overlap by {markov_overlap_0_100} (published 0.027)."),
    ),
    (
        Sentence(
            "In addition mod 53 the necessary size of the core is {modular_size} at grokking (published 15), falls to {modular_size_2000} by epoch "
            "2,000 and is {modular_size_end} at epoch 20,000 under decay (runs: {modular_size_end.n}), half of the published 60; the sufficient size "
            "there is {modular_sufficient_end}.",
            lambda values: values["modular_size"] > values["modular_size_2000"] < values["modular_size_end"] < 40,
        ),
        Sentence(
            "In addition mod 53 the core has {modular_size} dimensions at grokking (published 15) and {modular_size_end} at epoch 20,000 "
            "(published 60)."
        ),
    ),
    (
        Sentence(
            "Grokking times fall with λ by the exponent {time_exponent} (published −1.02) and are about twice those of the paper's law in p: "
            "Ω = {time_omega} steps (published 2,770) and p_crit = {time_p_crit} [{time_p_crit.low}, {time_p_crit.high}] (published 23).",
            lambda values: 1.6 < values["time_omega"] / 2_770 < 2.4,
        ),
        Sentence("Grokking time falls with λ with the exponent {time_exponent} (published −1.02); Ω = {time_omega} steps (published 2,770)."),
    ),
    (
        Sentence(
            "In small language models of a grammar, trained here, one axis carries number: flipped, it turns an AUC of {tiny_base} into "
            "{tiny_flip} on "
            "nouns that it was not extracted from, and {tiny_inverted:.0%} of the sentences written under the flip have the other number.",
            lambda values: values["tiny_flip"] < 0.1 and values["tiny_inverted"] > 0.9,
        ),
    ),
)

opening = partial(told, OPENING)
