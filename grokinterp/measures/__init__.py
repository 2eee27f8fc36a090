"""What is read off a snapshot: one module a family, with its headline rows and its figures; ``MEASURES`` holds them by name.

``gi.measures.fsd(snapshot)`` is the measure; the rest of its family is in the module of that name, ``from grokinterp.measures.fsd import signals``.
A measure of your own is a function: ``analyze(run, [mine])``, or ``gi.MEASURES["mine"] = mine`` to have it by name.
"""

import importlib

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.measures.ace import MEASURE as ace
from grokinterp.measures.algorithm import MEASURE as algorithm
from grokinterp.measures.cosets import MEASURE as cosets
from grokinterp.measures.equivalent import MEASURE as equivalent
from grokinterp.measures.fsd import FILTERED_LOSS as filtered_loss
from grokinterp.measures.fsd import MEASURE as fsd
from grokinterp.measures.headline import Number, Row, row_of
from grokinterp.measures.heads import MEASURE as heads
from grokinterp.measures.loss import MEASURE as loss
from grokinterp.measures.measure import Measure, Measures, as_measure
from grokinterp.measures.pictures import ATTENTION_MAPS as attention_maps
from grokinterp.measures.pictures import NEURON_MAPS as neuron_maps
from grokinterp.measures.pictures import WEIGHTS_PATH as weights_path
from grokinterp.measures.progress import MEASURE as progress
from grokinterp.measures.representations import MEASURE as representations
from grokinterp.measures.spectrum import MEASURE as spectrum

__all__ = ["MEASURES", "Measure", "Measures", "Number", "Row", "find", "row_of"]
__all__ += [
    "ace",
    "algorithm",
    "attention_maps",
    "cosets",
    "equivalent",
    "filtered_loss",
    "fsd",
    "heads",
    "loss",
    "neuron_maps",
    "progress",
    "representations",
    "spectrum",
    "weights_path",
]

_SPECTRA, _CIRCUITS = (progress, spectrum, representations, cosets, fsd, filtered_loss), (heads, algorithm, equivalent, ace)
MEASURES = Measures({each.name: each for each in (loss, *_SPECTRA, *_CIRCUITS, neuron_maps, attention_maps, weights_path)})
"""In the order in which a report shows them; open for your own."""
OURS = frozenset(MEASURES)
"""The names of the package's own."""


def find(name: str) -> Measure:
    """The measure of a name in `MEASURES`, or the one, or plain function, that "module:name" names, imported for it.

    Raises:
        GrokinterpError: neither.
    """
    module, colon, attribute = name.partition(":")
    if not colon:
        if name not in MEASURES:
            raise unknown_name("measure", name, MEASURES)
        return MEASURES[name]
    try:
        return as_measure(getattr(importlib.import_module(module), attribute))
    except (ImportError, AttributeError, ValueError) as error:
        raise GrokinterpError(f"there is no measure {name!r} ({error}); write it like my_module:my_function") from error
