"""What the reproduction of arXiv 2306.17844 found, in sentences that take their numbers from the measurements."""

from __future__ import annotations

from functools import partial

from grokinterp.papers.sentences import Sentence, told

OPENING = (
    (
        Sentence(
            "From constant to ordinary attention mean gradient symmetricity goes from {symmetricity_rate_0:.3f} to {symmetricity_rate_100:.3f} "
            "(published 0.993 and 0.477) and the irrelevance of the largest wrong logit from {irrelevance_rate_0:.2f} to {irrelevance_rate_100:.2f} "
            "(published 0.42 and 0.84), in {symmetricity_rate_0.n} and {symmetricity_rate_100.n} runs."
        ),
    ),
    (
        Sentence(
            "Of the circular runs all at rate 0 read as pizzas and all at rate 1 as clocks.",
            lambda values: values.get("pizza_at_0") == values.get("clock_at_1") == 1,
        ),
        Sentence("Of the circular runs at rate 0 {pizza_at_0:.0%} read as pizzas, and at rate 1 {clock_at_1:.0%} as clocks."),
        Sentence("Of the circular runs at rate 1 {clock_at_1:.0%} read as clocks; at rate 0 none is circular."),
        Sentence("Of the circular runs at rate 0 {pizza_at_0:.0%} read as pizzas; at rate 1 none is circular."),
    ),
    (
        Sentence(
            "No run turned from one into the other: before it is either, its embedding is not circular.", lambda values: values.get("turned") == 0
        ),
        Sentence("{turned:.0%} of the runs were a pizza at one checkpoint and a clock at another."),
    ),
    (
        Sentence(
            "At rate 0 the sum of the circles alone, at the neurons' inputs, recovers {recovered_pizza_rate_0:.3f} of the loss. At rate 1 "
            "neither that sum ({recovered_pizza_rate_100:.2f}) nor their product ({recovered_clock_rate_100:.2f}) does; both together recover "
            "{recovered_hybrid_rate_100:.3f}.",
            lambda values: max(values["recovered_clock_rate_100"], values["recovered_pizza_rate_100"]) < values["recovered_hybrid_rate_100"],
        ),
    ),
    (
        Sentence(
            "A circle alone is a pizza at rate 0, where that formula explains {isolated_pizza:.3f} of its logits (published 0.992) and a clock's "
            "{isolated_clock:.2f} (0.75); {circular:.0%} of the runs have circular embeddings (published 34 %)."
        ),
    ),
)

opening = partial(told, OPENING)
