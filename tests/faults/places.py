"""Every command × every place where its output cannot, may not, or can only just be written.

`places` makes the places; `COMMANDS` are the command lines, with what they take for an output; `attempt` runs one and says what happened.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from grokinterp.cli import main

SMALL = ["model.d_model=8", "model.n_heads=2", "model.d_mlp=8", "p=5", "train_fraction=0.6", "steps=4", "eval_every=2", "stop=null", "dtype=float32"]


@dataclass(frozen=True)
class Command:
    """A command line that writes.

    Attributes:
        arguments: of the place where it writes and of a finished run that it reads, with a saved report beside it called saved.nc.
        makes: a file, or a folder with files.
        environment: variables that say where it writes.
    """

    arguments: Callable[[Path, Path], list[str]]
    makes: Literal["file", "folder"]
    environment: Callable[[Path], dict[str, str]] = lambda at: {}


COMMANDS = {
    "demo --report": Command(lambda at, run: ["demo", "--out", f"{run.parent / 'demo'}", "--report", f"{at}"], "file"),
    "demo --out": Command(lambda at, run: ["demo", "--out", f"{at}", "--report", f"{run.parent / 'demo.html'}"], "folder"),
    "train --out": Command(lambda at, run: ["train", f"{run / 'config.json'}", "--out", f"{at}", "--seed", "1"], "folder"),
    "analyze --save": Command(lambda at, run: ["analyze", f"{run}", "--steps", "4", "--save", f"{at}"], "file"),
    "report --out": Command(lambda at, run: ["report", f"{run.with_name('saved.nc')}", "--out", f"{at}"], "file"),
    "fork --out": Command(lambda at, run: ["fork", f"{run}", "--at", "4", "--steps", "6", "--out", f"{at}"], "folder"),
    "sweep --out": Command(lambda at, run: ["sweep", f"{run / 'config.json'}", "--grid", "seed=2", "--workers", "0", "--out", f"{at}"], "folder"),
    "reproduce --out": Command(lambda at, run: ["reproduce", "nanda2023", "--out", f"{at}"], "folder"),
    "reproduce --docs": Command(lambda at, run: ["reproduce", "nanda2023", "--out", f"{run.parent / 'reproduced'}", "--docs", f"{at}"], "folder"),
    "agreement --docs": Command(lambda at, run: ["agreement", "gpt2", "--docs", f"{at}"], "folder"),
    "flip": Command(lambda at, run: ["flip", "tiny", "The keys"], "folder", lambda at: {"GROKINTERP_CACHE": f"{at}"}),
}
"""`cite` writes to standard output alone, as all of them do besides."""


@dataclass(frozen=True)
class Place:
    """Somewhere to write to.

    Attributes:
        make: makes it in a folder; a context with the path to write to.
        file: what becomes of a file that is to be written there: "written", or words of the sentence that refuses it.
        folder: the same of a folder.
    """

    make: Callable[[Path, Path], contextlib.AbstractContextManager[Path]]
    file: str
    folder: str


@contextlib.contextmanager
def _plain(at: Path, run: Path, make: Callable[[Path], object] = lambda at: None, name: str = "x") -> Iterator[Path]:
    make(at)
    yield at / name


def _at(make: Callable[[Path], object], name: str = "x") -> Callable[[Path, Path], contextlib.AbstractContextManager[Path]]:
    return lambda at, run: _plain(at, run, make, name)


class NoMount(Exception):
    """Mounting needs root, and leave to do so."""


@contextlib.contextmanager
def _disk(at: Path, size: str, read_only: bool) -> Iterator[Path]:
    """A file system of a few kilobytes, or one that is read-only."""
    disk = at / "disk"
    disk.mkdir()
    options = f"size={size},nr_inodes=200" + (",ro" if read_only else "")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], capture_output=True).returncode:
        raise NoMount
    try:
        yield disk / "x"
    finally:
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()


@contextlib.contextmanager
def _forbidden(at: Path, run: Path) -> Iterator[Path]:
    """A folder that this user may only read; root, who may do anything, is nobody meanwhile."""
    folder = at / "forbidden"
    folder.mkdir()
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder / "x"
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def _run_file(at: Path, run: Path) -> contextlib.AbstractContextManager[Path]:
    return contextlib.nullcontext(run / "config.json")


def _new_run_file(at: Path, run: Path) -> contextlib.AbstractContextManager[Path]:
    return contextlib.nullcontext(run / "checkpoints" / "step_00000009.safetensors")


PLACES = {
    "new": Place(_at(lambda at: None, "new/x"), "written", "written"),
    "a link to nothing": Place(_at(lambda at: (at / "x").symlink_to("real")), "written", "x exists and is not a"),
    "a link to a folder": Place(_at(lambda at: ((at / "real").mkdir(), (at / "x").symlink_to("real"))), "is a folder; name a file in it", "written"),
    "/dev/null": Place(lambda at, run: contextlib.nullcontext(Path("/dev/null")), "written", "/dev/null"),
    "/dev/full": Place(lambda at, run: contextlib.nullcontext(Path("/dev/full")), "no room left to write /dev/full", "/dev/full"),
    "a pipe": Place(_at(lambda at: os.mkfifo(at / "x")), "nobody reads the pipe", "x"),
    "below a file": Place(_at(lambda at: (at / "file").touch(), "file/x"), "not a folder", "not a folder"),
    "a long name": Place(_at(lambda at: None, "n" * 256), "too long", "too long"),
    "another kind of file": Place(_at(lambda at: (at / "x").write_bytes(b"\0 mine")), "overwrite it with --force", "x"),
    "a file of a run": Place(_run_file, "is a file of the run in", "config.json"),
    "a new file of a run": Place(_new_run_file, "is a file of the run in", "is a file of the run in"),
    "a read-only disk": Place(lambda at, run: _disk(at, "1m", read_only=True), "read-only", "read-only"),
    "a full disk": Place(lambda at, run: _disk(at, "4k", read_only=False), "no room left to write", "no room left to write"),
    "a forbidden folder": Place(_forbidden, "no permission for", "no permission for"),
}
FOLLOWED = ("sweep --out", "reproduce --docs", "agreement --docs")
"""Commands that make the folder that a link to nothing leads to."""


@dataclass(frozen=True)
class Outcome:
    """What a command did.

    Attributes:
        status: its exit status.
        said: on standard error.
        changed: the paths that are other than before, besides the place itself.
    """

    status: int
    said: str
    changed: list[str]


def everything_in(folder: Path) -> dict[str, object]:
    """What lies in a folder: contents of files, targets of links, kinds and numbers of devices and pipes."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        found[str(path.relative_to(folder))] = (
            os.readlink(path) if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else stat.S_IFMT(mode)
        )
    return found


def attempt(arguments: list[str], standard_error: Callable[[], str]) -> tuple[int, str]:
    """Run a command line in this process; its exit status and what it said on standard error."""
    standard_error()
    try:
        status = main(arguments)
    except SystemExit as end:  # of the parser
        status = int(end.code or 0)
    return status, standard_error()


def fresh(original: Path, at: Path) -> Path:
    """A copy of a run, with its saved report beside it, that anybody may read."""
    shutil.copytree(original, at / "run")
    shutil.copy(original.with_name("saved.nc"), at / "saved.nc")
    return at / "run"
