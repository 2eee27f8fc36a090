"""What the reproduction of arXiv 2302.03025 found, in sentences that take their numbers from the measurements."""

from __future__ import annotations

from functools import partial

from grokinterp.papers.sentences import Sentence, told

_LOSSES = (
    "At the end the key representations alone have {restricted} times the test loss, and without them the loss is {excluded} times that of guessing."
)
_SHARES = "They hold {operands} of the operands' weights and {neurons} of the neurons' variance, {product} as functions of the product."
_COSETS = "Of the live neurons {cosets} are coset neurons, and the coset algorithm in the neurons' place recovers {recovered} of the loss."
OPENING = (
    (
        Sentence(
            "Of our models of composition {groks:.0%} grok, and in {phases:.0%} memorization, circuit formation and cleanup follow each other by the "
            "rule of nanda2023."
        ),
    ),
    (Sentence(_LOSSES),),
    (Sentence(_SHARES),),
    (Sentence(_COSETS),),
    (Sentence("While they train, the synchronization degree over representations peaks at {fsd} on average."),),
)

opening = partial(told, OPENING)
