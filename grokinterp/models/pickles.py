"""Pickles of other people, opened so that nothing in them runs."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError

_N_VALUES = 10_000  # of a configuration


def read_pickle(file: Path, stand_ins: Sequence[tuple[type, str]] = ()) -> Any:
    """What a file of ``torch.save`` holds, if that is tensors and plain values alone, on the CPU.

    Args:
        file: an ordinary file of bounded size, see `files.regular_file`.
        stand_ins: empty classes that take the place of classes of settings, which are named in full and never imported.

    Raises:
        GrokinterpError: the file is cut short, holds code (a whole module, TorchScript), or unpacks to more than it is.
    """
    _refuse_archives(file)
    with file.open("rb") as handle:
        begins = handle.read(4)
    try:
        if not begins.startswith((b"PK\3\4", b"\x80")):  # an archive, or a pickle of the older format
            raise ValueError(f"it begins with {begins!r}")
        with warnings.catch_warnings(), torch.serialization.safe_globals([*_numpy_scalars(), *stand_ins]):
            warnings.simplefilter("ignore")  # torch's advice on other ways to open the file
            saved = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise GrokinterpError(
            f"{file} holds more than tensors and plain values, like a whole module, and was not opened, because it could run code; "
            "ask its author for weights alone, torch.save(model.state_dict(), …)"
        ) from error
    except Exception as error:  # whatever the bytes of a damaged pickle make torch trip over
        raise GrokinterpError(f"{file} is cut short or not a PyTorch checkpoint; download it again") from error
    return saved


def _refuse_archives(file: Path) -> None:
    """Raise for TorchScript, which is code, and for an archive that unpacks to more than the file that it comes in."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # the older format, or damaged, which torch says
    if any(name.endswith("constants.pkl") for name in names):
        raise GrokinterpError(f"{file} is TorchScript, a program with its weights; where its author's code is: torch.save(model.state_dict(), …)")
    if unpacked > file.stat().st_size:
        raise GrokinterpError(f"{file} unpacks to {unpacked:,} bytes from {file.stat().st_size:,}, which torch.save never makes; it was not opened")


def _numpy_scalars() -> list[Any]:
    """What a pickle needs to bring NumPy numbers back, under the names of NumPy 1 and 2; nothing of it runs code."""
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((scalar, name) for name in names), np.dtype, *{type(np.dtype(code)) for code in "?bhilqBHILQefd"}]


def plain(value: Any, where: str) -> Any:
    """A value of a pickle in values that JSON knows: numbers of NumPy and torch as Python's, devices, types and paths by name.

    Args:
        value: what the pickle holds; it may hold itself.
        where: what an error calls it.

    Raises:
        GrokinterpError: a tensor; nesting deeper than 4 levels, or more than 10,000 values.
    """
    budget = iter(range(_N_VALUES))

    def turned(value: Any, depth: int) -> Any:
        if next(budget, None) is None or depth > 4:
            raise GrokinterpError(f"{where} is nested deeper than 4 levels or has more than {_N_VALUES:,} values")
        if isinstance(value, Mapping):
            return {str(name): turned(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [turned(item, depth + 1) for item in value]
        if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.ndim == 0):
            value = value.item()
        if value is None or isinstance(value, str | bool | float) or (isinstance(value, int) and abs(value) < 2**63):
            return value
        if isinstance(value, Tensor):
            raise GrokinterpError(f"{where} holds a tensor of shape {tuple(value.shape)}")
        return shown(value) if isinstance(value, int | bytes) else str(value)

    return turned(value, 0)
