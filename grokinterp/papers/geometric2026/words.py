"""What the reproduction of arXiv 2603.05228 found, in sentences that take their numbers from the measurements."""

from __future__ import annotations

from functools import partial

from grokinterp.papers.geometric2026.claims import CLAIMS
from grokinterp.papers.sentences import Sentence, accepted, told

OPENING = (
    (
        Sentence(
            "LayerNorm groks when the paper says it does: after {onset_layer_1_6e_4} epochs at lr 6e-4 (runs: {onset_layer_1_6e_4.n}; published "
            "7,800) and after {onset_layer_1_1e_4} at 1e-4 (runs: {onset_layer_1_1e_4.n}; published 54,160).",
            accepted(CLAIMS, "onset_layer_1_6e_4", "onset_layer_1_1e_4"),
        ),
        Sentence("LayerNorm groks after {onset_layer_1_6e_4} epochs at lr 6e-4 (published 7,800) and {onset_layer_1_1e_4} at 1e-4 (54,160)."),
    ),
    (
        Sentence(
            "The sphere without weight decay is {speed_up_6e_4:.1f} times faster at lr 6e-4 and {speed_up_1e_4:.1f} times at 1e-4, where the "
            "published means make 9.5 and 21.8."
        ),
    ),
    (
        Sentence(
            "The paper leaves its baseline the weight decay that it takes from the sphere; LayerNorm without it never groks in 12,000 epochs "
            "(runs: {layer_without_decay.n}), so at equal decay the factor is at least {speed_up_without_decay:.1f}.",
            lambda values: values["layer_without_decay"] == 0,
        ),
        Sentence(
            "Without weight decay {layer_without_decay:.0%} of the LayerNorm runs grok too; there the sphere is "
            "{speed_up_without_decay:.1f} times faster."
        ),
    ),
    (
        Sentence(
            "Weight decay does not slow the sphere, as the paper's table has it, but brings grokking forward: {onset_sphere_1_6e_4} epochs with it "
            "and {onset_sphere_0_6e_4} without.",
            lambda values: values["decay_slows_6e_4"] < 1,
        ),
        Sentence("Weight decay slows the sphere, as the paper has it: {onset_sphere_1_6e_4} epochs with it and {onset_sphere_0_6e_4} without."),
    ),
    (
        Sentence(
            "Much of the effect is the bounded read-out: with a free W_U the sphere takes {free_1:.1f} times as long under decay and at least "
            "{free_0:.1f} times without.",
            lambda values: min(values["free_1"], values["free_0"]) > 1,
        ),
    ),
)

opening = partial(told, OPENING)
