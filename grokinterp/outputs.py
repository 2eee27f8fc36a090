"""Writing what a user asked for where the user asked for it: a page, a table, a figure, whose place may be anything."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.files import replacing


@dataclass(frozen=True)
class Kind:
    """A kind of file that is written for the user, so that one of another kind is not overwritten by mistake.

    Attributes:
        name: in a sentence, like "an HTML page".
        begins: matches the first bytes of every such file.
    """

    name: str
    begins: re.Pattern[bytes]

    def matches(self, path: Path) -> bool:
        """Whether a file is of this kind, or empty."""
        with open(path, "rb") as handle:
            head = handle.read(_HEAD)
        return not head or self.begins.match(head) is not None


_HEAD = 1 << 16  # bytes
PAGE = Kind("an HTML page", re.compile(rb"\s*<(!doctype\s+html|html)", re.IGNORECASE))
NETCDF = Kind("a netCDF file", re.compile(rb"\x89HDF|CDF"))
PARQUET = Kind("a Parquet table", re.compile(rb"PAR1"))
SVG = Kind("an SVG figure", re.compile(rb"\s*(<\?xml.*?)?<svg", re.DOTALL))
CORE = Kind("a core", re.compile(rb".{8}\{.*grokinterp core", re.DOTALL))
TEXT = Kind("a text", re.compile(rb"[^\0]*\Z"))

_RUN_FILES = ("config.json", "provenance.json", "metrics.jsonl", "status.json", "error.txt", ".lock")
_RUN_FOLDERS = ("checkpoints", "moments")
_PATIENCE = 10.0  # seconds that a pipe waits for its reader


@contextlib.contextmanager
def output(path: str | Path, kind: Kind, *, force: bool = False) -> Iterator[Path]:
    """Yield a path to write an output for the user at; on success what was written there stands at ``path``.

    A file is replaced whole, as by `replacing`; a link is followed; a device or pipe is written in place; missing folders are made.

    Args:
        path: where the user wants it.
        kind: what is written.
        force: overwrite a file of another kind, too.

    Raises:
        GrokinterpError: see `check_output`, and whatever the operating system refuses; what stood at ``path`` is untouched.
    """
    target = check_output(path, kind, force=force)
    with os_errors_explained(path):
        if target.exists() and not target.is_file():
            with tempfile.TemporaryDirectory() as folder:
                temporary = Path(folder) / "output"
                yield temporary
                _copy_into(temporary, target)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            with replacing(target) as temporary:
                yield temporary


def check_output(path: str | Path, kind: Kind, *, force: bool = False) -> Path:
    """Where `output` is going to write, or why it cannot; for asking before a long computation. Changes nothing.

    Raises:
        GrokinterpError: a folder, a disk, a file of a run, a file of another kind without ``force``, or a place where nothing can be written.
    """
    path = Path(path)
    with os_errors_explained(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if mode is not None and stat.S_ISBLK(mode):
            raise GrokinterpError(f"{path} is a disk, not a file; writing would destroy what is on it, so choose another place")
        if mode is not None and not stat.S_ISREG(mode):
            _refuse_unless(_may(path, os.W_OK), path)
            return path  # as it is: what /dev/stdout is a link to may have no name
        target = path.resolve()
        _refuse_files_of_a_run(target, path)
        if mode is None:
            check_folder(target.parent)
            _refuse_too_long(target)
            return target
        if not force and not kind.matches(target):
            raise GrokinterpError(f"{path} exists and is not {kind.name}; choose another name, or overwrite it with --force (force=True)")
        _refuse_unless(_may(target, os.W_OK), target)
        _refuse_unless(_may(target.parent, os.W_OK | os.X_OK), target.parent)
        return target


def check_folder(path: str | Path) -> None:
    """Make sure that files can be made in a folder, which need not exist yet; changes nothing.

    Raises:
        GrokinterpError: it is something else or would stand where a run keeps its files, or nothing can be written there.
    """
    with os_errors_explained():
        folder = Path(path).resolve()
        while not _exists(folder):
            _refuse_too_long(folder)
            _refuse_files_of_a_run(folder, path)
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        _refuse_unless(_may(folder, os.W_OK | os.X_OK), folder)


def _exists(path: Path) -> bool:
    """Whether there is something, be it a link to nothing; `Path.exists` swallows errors other than that there is not."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def _may(path: Path, what: int) -> bool:
    """Whether this process may do that; asked for the user that it acts as, where the system can be."""
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def _refuse_unless(allowed: bool, path: Path) -> None:
    """Raise what the operating system would when writing is not allowed."""
    if not allowed:
        read_only = hasattr(os, "statvfs") and os.statvfs(path).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number), path)


def _refuse_too_long(path: Path) -> None:
    """Raise for a name that no file of a folder that is still to be made could have."""
    if len(os.fsencode(path.name)) > 255:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)


def _run_of(path: Path) -> Path:
    return path.parent.parent if path.parent.name in _RUN_FOLDERS else path.parent


def _refuse_files_of_a_run(target: Path, path: str | Path) -> None:
    """Raise where a run's folder keeps, or would keep, something of its own."""
    inside = target.name in _RUN_FILES or (target.parent.name in _RUN_FOLDERS and re.fullmatch(r"step_\d+\.safetensors", target.name))
    if inside and (_run_of(target) / "config.json").is_file():
        raise GrokinterpError(f"{path} is a file of the run in {_run_of(target)}, which would be lost; choose another name or folder")


def _copy_into(source: Path, target: Path) -> None:
    """Write a file's bytes into a device or a pipe."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            # Without waiting: a pipe that nobody reads would be waited for without end.
            handle = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > deadline:
                raise
        time.sleep(0.05)
    os.set_blocking(handle, True)
    with open(source, "rb") as have, open(handle, "wb") as out:
        shutil.copyfileobj(have, out)
