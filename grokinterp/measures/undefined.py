"""What is not defined on a snapshot: NaN with its reason beside it, or a refusal in words.

A measure that does not apply at all raises a `GrokinterpError`. Where only some of its numbers are not defined, these are NaN, and the variable says
why in its attribute ``undefined``. `analyze` gathers both over the steps, into ``report.failures`` and ``report.undefined``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from grokinterp.errors import GrokinterpError

UNDEFINED = "undefined"


def with_reasons(dataset: xr.Dataset, reasons: Mapping[str, str | None]) -> xr.Dataset:
    """The dataset, each named variable with the reason why it, or an entry of it, is NaN; None and names that it lacks are left out."""
    for name, reason in reasons.items():
        if reason is not None and name in dataset:
            dataset[name].attrs[UNDEFINED] = reason
    return dataset


def reasons_of(dataset: xr.Dataset) -> dict[str, str]:
    """Why variables of a dataset are not defined, in whole or in part, by name."""
    return {str(name): str(array.attrs[UNDEFINED]) for name, array in dataset.data_vars.items() if UNDEFINED in array.attrs}


def finite(values: Tensor, what: str) -> Tensor:
    """The values, refused unless all of them are finite numbers.

    Args:
        values: of any shape.
        what: they are, in the plural, for the message.

    Raises:
        GrokinterpError: NaN or an infinity.
    """
    if not bool(torch.isfinite(values).all()):
        raise GrokinterpError(f"{what} hold NaN or infinities, so that nothing can be read off them")
    return values


def refuse_unless_finite(model: Any) -> None:
    """Refuse a model with a weight that is NaN or infinite, as a diverged training leaves it.

    Raises:
        GrokinterpError: naming the first such parameter.
    """
    for name, parameter in model.named_parameters():
        finite(parameter, f"the weights ({name} first)")


def has_finite_weights(model: Any) -> bool:
    """Whether every weight of a model is a finite number."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
