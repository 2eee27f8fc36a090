"""What the contest of predictors found, in sentences that take their numbers from the measurements."""

from __future__ import annotations

from functools import partial

from grokinterp.papers.sentences import Sentence, told

OPENING = (
    (
        Sentence(
            "Of {fsd_precedes.n} small runs that grok FSD (K = 1) reaches 0.80 first in {fsd_precedes:.0%}, where its paper has it first in "
            "nine of nine.",
            lambda values: values["fsd_precedes"] < 1,
        ),
        Sentence("Of {fsd_precedes.n} small runs that grok FSD (K = 1) reaches 0.80 first in {fsd_precedes:.0%}."),
    ),
    (
        Sentence(
            "At a false-alarm rate of one in ten FSD announces {fsd_announces:.0%} of the {fsd_announces.n} scored runs and restricted loss "
            "{restricted_announces:.0%}; excluded loss announces {excluded_announces:.0%}."
        ),
    ),
    (
        Sentence(
            "FSD's lead over the best plain training metric is {fsd_ahead_of_plain:.2f} of the way to grokking, and over the test loss itself "
            "{fsd_ahead_of_test_loss:.2f}: both warn earlier than FSD.",
            lambda values: max(values["fsd_ahead_of_plain"], values["fsd_ahead_of_test_loss"]) < 0,
        ),
        Sentence(
            "FSD is ahead of the best plain training metric by {fsd_ahead_of_plain:.2f} and of the test loss by "
            "{fsd_ahead_of_test_loss:.2f} of the way."
        ),
    ),
    (
        Sentence(
            "The Gini coefficient of W_E announces {gini_announces:.0%}, head similarity {similarity_announces:.0%} and entropy spread "
            "{entropy_announces:.0%}."
        ),
    ),
    (
        Sentence(
            "To clock, training loss and weight norm the attention diagnostics add {attention_adds:.3f} of AUC, where their author's later "
            "note says nothing.",
            lambda values: values["attention_adds"] > 0.02,
        ),
        Sentence(
            "To clock, training loss and weight norm the attention diagnostics add {attention_adds:.3f} of AUC, nothing to speak of, as "
            "their author notes."
        ),
    ),
)

opening = partial(told, OPENING)
