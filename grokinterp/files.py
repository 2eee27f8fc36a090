"""Writing so that no reader ever sees half a file, and reading so that no file ever runs code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grokinterp.errors import GrokinterpError

if TYPE_CHECKING:
    from torch import Tensor

_TEMPORARY = ".tmp-"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces ``path``, flushed to disk first.

    A reader sees the old file or the new one, whole, whatever happens in between.

    Raises:
        GrokinterpError: the disk is full; what stood at ``path`` is untouched.
    """
    # A name of its own for each process and thread: two drivers of a sweep may write one table at a time.
    temporary = path.with_name(f".{path.name}{_TEMPORARY}{os.getpid()}-{threading.get_ident()}")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if is_disk_full(error):
            raise GrokinterpError(
                f"no room left to write {path}; free some space and run the same command again, it goes on from the last whole checkpoint"
            ) from error
        raise


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that a disk or quota is full."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed writer left in ``folder`` (and only those)."""
    for leftover in folder.glob(f".*{_TEMPORARY}*"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON file.

    Raises:
        GrokinterpError: the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise GrokinterpError(f"{path} does not exist") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise GrokinterpError(f"{path} is not readable as JSON ({error}); restore it or choose another folder") from error


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as safetensors, atomically."""
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(save(contiguous, metadata=dict(metadata or {})))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a safetensors file, whole or not at all.

    Raises:
        GrokinterpError: the file is missing, cut short or not safetensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        # load() copies; load_file() would map the file, which a writer may replace meanwhile.
        return load(path.read_bytes())
    except FileNotFoundError:
        raise GrokinterpError(f"{path} does not exist") from None
    except SafetensorError as error:
        raise GrokinterpError(f"{path} is cut short or not a safetensors file ({error}); delete it to go on from the checkpoint before") from error
