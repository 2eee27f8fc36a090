"""Chance: what ``rng`` means wherever something is drawn."""

from __future__ import annotations

import numpy as np

from grokinterp.errors import GrokinterpError

Rng = int | np.random.Generator
"""A seed, which gives the same draws at every call, or a numpy Generator, which goes on from where it stands."""


def generator(rng: Rng) -> np.random.Generator:
    """The source of all that is drawn: a generator as it is, or a new one from a seed.

    Raises:
        GrokinterpError: neither a seed of 0 or more nor a numpy Generator.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0:
        return np.random.default_rng(rng)
    raise GrokinterpError(f"rng is a seed of 0 or more, or a numpy Generator such as numpy.random.default_rng(0); got {rng!r}")
