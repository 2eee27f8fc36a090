"""The logits of a snapshot in the two-dimensional Fourier basis."""

from __future__ import annotations

import torch
import xarray as xr

from grokinterp import plots
from grokinterp.groups.fourier import component_names, pair_spectrum
from grokinterp.measures.measure import Measure
from grokinterp.measures.needs import cyclic
from grokinterp.measures.undefined import finite
from grokinterp.snapshot import Snapshot


def spectrum(snapshot: Snapshot) -> xr.Dataset:
    """The logits in the two-dimensional Fourier basis (Nanda et al. 2023, section 4).

    Returns:
        ``logit_component_norm`` [component_x, component_y]: the norm over answers of each component of the logits over pairs,
        float32; the constant of every answer, which no operand moves, is left out.

    Raises:
        GrokinterpError: a task without a cyclic group.
    """
    names = component_names(cyclic(snapshot).order)
    finite(snapshot.logits, "the logits")
    norm = torch.linalg.vector_norm(pair_spectrum(snapshot.logit_table.float()), dim=2)
    norm[0, 0] = 0
    return xr.Dataset({"logit_component_norm": (("component_x", "component_y"), norm.numpy())}, coords={"component_x": names, "component_y": names})


MEASURE = Measure(spectrum, needs=(cyclic,), figures=(plots.logits_2d,))
