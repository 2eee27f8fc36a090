"""What the reproduction of arXiv 2301.05217 found, in sentences that take their numbers from the measurements."""

from __future__ import annotations

from functools import partial

from grokinterp.papers.sentences import Sentence, told

OPENING = (
    (
        Sentence(
            "The paper's run groks here as there: it memorises, forms its circuit and cleans up, in this order.",
            lambda values: values["groks"] == values["phases"] == 1,
        ),
        Sentence("Of our runs {groks:.0%} grok, and in {phases:.0%} memorization, circuit formation and cleanup follow each other."),
    ),
    (
        Sentence(
            "By our rule for the phases they end at epochs {memorization_end}, {circuit_end} and {cleanup_end}, where the paper reads "
            "1,400, 9,400 and "
            "14,000 off its curves."
        ),
    ),
    (
        Sentence(
            "It uses {key_frequencies} frequencies, as many as published, and their cosines explain {fve} of the logits' variance (published 0.95).",
            lambda values: values["key_frequencies"] == 5,
        ),
        Sentence("It uses {key_frequencies} frequencies (published 5), and their cosines explain {fve} of the logits' variance (published 0.95)."),
    ),
    (Sentence("Of its neurons a share of {neurons} have more than 85 % of their variance at one frequency (published 0.846)."),),
    (
        Sentence(
            "At the end the key frequencies alone have {restricted} times the test loss of the whole model, and without them the loss on "
            "the training "
            "pairs is {excluded} times that of guessing.",
            lambda values: values["restricted"] < 1 < values["excluded"],
        ),
    ),
)

opening = partial(told, OPENING)
