"""Writing so that no reader ever sees half a file, and reading so that no file ever runs code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError, explained
from grokinterp.seal import facts_of, is_broken, sealed

if TYPE_CHECKING:
    from torch import Tensor

TEXT_LIMIT = 1 << 24  # bytes of a JSON or other text file of ours; parsed, it takes some 30 times as much memory
TENSORS_LIMIT = 1 << 32  # bytes of a file with weights, moments or a core

_TEMPORARY = ".tmp-"
_DEPTH = 100  # levels of JSON
_DIGITS = 40  # of a whole number in JSON
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; on success it replaces ``path``, flushed to disk first.

    A reader sees the old file or the new one, whole, whatever happens in between.

    Raises:
        GrokinterpError: the operating system refuses, because the disk is full for example; what stood at ``path`` is untouched.
    """
    # A name of its own for each process and thread: two drivers of a sweep may write one table at a time.
    # Cut short, so that every name that a file may have leaves room for it.
    temporary = path.with_name(f".{os.fsdecode(os.fsencode(path.name)[:100])}{_TEMPORARY}{os.getpid()}-{threading.get_ident()}")
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explained(error, path) from error
        raise


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside the place that takes its name when the block ends without an error, and is gone where it does not.

    Args:
        folder: where it will be; nothing may stand there but an empty folder.

    Raises:
        GrokinterpError: something stands there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GrokinterpError(f"{folder} is not empty; choose another folder")
    parent = folder.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    unfinished = parent / f".{folder.name}{_TEMPORARY}{os.getpid()}-{threading.get_ident()}"
    unfinished.mkdir()
    try:
        yield unfinished
        unfinished.replace(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk too, so that files that were renamed into it survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def regular_file(path: str | Path, limit: int | None = None) -> Path:
    """The path, once it is known that an ordinary file of bounded size stands there; links are followed.

    Ask before a library opens a path on its own: a FIFO would block it for ever, a device or a sparse file would fill the memory.

    Args:
        path: where the file should be.
        limit: bytes that it may have at most; None for any number.

    Raises:
        GrokinterpError: nothing is there, or a folder, FIFO, device or socket; the file is larger; it may not be looked at.
    """
    path = Path(path)
    try:
        _check_file(path, path.stat(), limit)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return path


def read_bytes(path: str | Path, limit: int, start: int = 0) -> bytes:
    """The content of an ordinary file of at most ``limit`` bytes, see `regular_file`; from a byte on where ``start`` is given.

    Raises:
        GrokinterpError: as `regular_file`; or the system does not let it be read.
    """
    path = regular_file(path, limit)
    try:
        with open(path, "rb", opener=_without_waiting) as handle:
            _check_file(path, os.fstat(handle.fileno()), limit)
            handle.seek(start)
            content = handle.read(limit + 1 - start)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if start + len(content) > limit:
        raise GrokinterpError(f"{path} grows while it is read, beyond {limit:,} bytes; wait until its writer is done")
    return content


def read_text(path: str | Path) -> str:
    """The text of an ordinary UTF-8 file, with or without a byte order mark; line ends stay as they are.

    Raises:
        GrokinterpError: as `read_bytes`; or the file is not UTF-8.
    """
    try:
        return read_bytes(path, TEXT_LIMIT).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GrokinterpError(f"{path} cannot be read as text ({error}); save it as UTF-8") from error


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; where a pipe has taken its place meanwhile, do not wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_file(path: Path, found: os.stat_result, limit: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "no ordinary file")
        raise GrokinterpError(f"{path} is {kind}, not a file; copy what it holds into a file and pass that")
    if limit is not None and found.st_size > limit:
        raise GrokinterpError(f"{path} has {found.st_size:,} bytes, and a file here has at most {limit:,}; it is damaged or of another kind")


def _unreadable(path: Path, error: Exception) -> GrokinterpError:
    """The sentence for what the system said; a sentence of our own as it is."""
    if isinstance(error, GrokinterpError):
        return error
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return GrokinterpError(f"{path} does not exist: it is a link to {os.readlink(path)}, which is not there")
    if isinstance(error, OSError):
        return explained(error, path)
    return GrokinterpError(f"{str(path)[:100]!r} is no path: {error}")


def read_json(path: str | Path) -> Any:
    """The value in one JSON file, see `parse_json`.

    Raises:
        GrokinterpError: the file is missing, not a file, too large, not text, or `parse_json` refuses what it holds.
    """
    return parse_json(read_text(path), f"{path}", "restore it or choose another folder")


def read_object(path: str | Path) -> dict[str, Any]:
    """The object, ``{"name": value}``, in one JSON file.

    Raises:
        GrokinterpError: as `read_json`; or the file holds another kind of value.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise GrokinterpError(f"{path} must hold an object with named fields; got {shown(value)}; restore it")
    return value


def parse_json(text: str, where: str, remedy: str = "restore it") -> Any:
    """The value that a JSON text writes.

    Args:
        text: the whole text.
        where: what an error calls it, a path for example.
        remedy: what an error advises.

    Raises:
        GrokinterpError: not JSON; nested deeper than 100 levels; a whole number of more than 40 digits; one name with two different
            values in an object; half of a character (a lone surrogate). None of these occurs in a file that a program wrote on purpose.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_int=_whole_number)
        _check_values(value)
    except RecursionError:
        raise GrokinterpError(f"{where} is not readable as JSON (nested too deep, beyond {_DEPTH} levels); {remedy}") from None
    except ValueError as error:  # JSONDecodeError is one, and so are the complaints of the functions below
        raise GrokinterpError(f"{where} is not readable as JSON ({error}); {remedy}") from error
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found and found[name] != value:
            raise ValueError(f"{name!r} is {shown(found[name])} in one place and {shown(value)} in another")
        found[name] = value
    return found


def _whole_number(digits: str) -> int:
    if len(digits.lstrip("-")) > _DIGITS:
        raise ValueError(f"a number of {len(digits.lstrip('-'))} digits, {digits[:12]}…")
    return int(digits)


def _check_values(value: Any) -> None:
    """Raise a ValueError for nesting or text that later code could not handle."""
    level, depth = [value], 0
    while level:
        if depth > _DEPTH:
            raise ValueError(f"nested too deep, beyond {_DEPTH} levels")
        inside: list[Any] = []
        for item in level:
            if isinstance(item, str):
                item.encode()  # UnicodeEncodeError, a ValueError, where a surrogate stands alone
            elif isinstance(item, dict):
                inside += [*item.keys(), *item.values()]
            elif isinstance(item, list):
                inside += item
        level, depth = inside, depth + 1


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as safetensors, atomically and under a seal (`grokinterp.seal`) that reading checks.

    Args:
        path: of the file.
        tensors: by name.
        metadata: what the file says of itself, text by name.
    """
    from safetensors.torch import save

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        temporary.write_bytes(sealed(save(contiguous), metadata or {}))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read named tensors from a safetensors file, whole or not at all.

    Raises:
        GrokinterpError: the file is missing, not a file, above `TENSORS_LIMIT`, cut short, not safetensors, or its seal is broken.
    """
    return read_tensors_and_facts(path)[0]


def read_tensors_and_facts(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Named tensors, and what the file says of itself; a file that `write_tensors` wrote has its seal among these facts, `SEAL`.

    Raises:
        GrokinterpError: see `read_tensors`.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    content = read_bytes(path, TENSORS_LIMIT)
    try:
        # load() copies; load_file() would map the file, which a writer may replace meanwhile.
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # the last three for types that this torch does not know
        raise GrokinterpError(f"{path} is cut short or not a safetensors file ({error}); restore it from a copy") from error
    if is_broken(content):
        raise GrokinterpError(f"{path} is damaged: its bytes do not fit the checksum that was written with them; restore it from a copy")
    return tensors, facts_of(content)


def read_facts(path: Path) -> dict[str, str]:
    """What a safetensors file says of itself, read without its tensors, so without checking the seal; empty where it says nothing.

    Raises:
        GrokinterpError: the file is missing, not a file, or its beginning is not that of a safetensors file.
    """
    path = regular_file(path)
    try:
        with open(path, "rb", opener=_without_waiting) as handle:
            size = int.from_bytes(handle.read(8), "little")
            if size > TEXT_LIMIT:
                raise ValueError(f"a header of {size:,} bytes")
            return facts_of(size.to_bytes(8, "little") + handle.read(size))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise GrokinterpError(f"{path} is cut short or not a safetensors file ({error}); restore it from a copy") from error
