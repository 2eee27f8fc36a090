"""Where an output may be written, and that whatever stands in the way is untouched and said in one sentence that keeps its cause."""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
import xarray as xr

from grokinterp import GrokinterpError, Report, Run, analyze, outputs
from grokinterp.ace import Core
from grokinterp.outputs import CORE, NETCDF, PAGE, PARQUET, SVG, TEXT, Kind, check_output, output
from grokinterp.papers import Claim, Measurement, Reproduction
from grokinterp.reports.page import to_html

NEW = "<!doctype html>new"
CORE_OF_THREE = Core(directions=torch.eye(3).double(), spectrum=torch.ones(3).double(), mean=torch.zeros(3).double(), rank=1, hook="hook")


def write(path: Path, kind: Kind = PAGE, force: bool = False) -> None:
    with output(path, kind, force=force) as temporary:
        temporary.write_text(NEW)


def everything_in(folder: Path) -> dict[str, object]:
    """What lies in a folder: contents of files, targets of links, kinds of the rest."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        found[str(path.relative_to(folder))] = (
            os.readlink(path) if stat.S_ISLNK(mode) else path.read_bytes() if stat.S_ISREG(mode) else stat.S_IFMT(mode)
        )
    return found


def test_a_new_file_an_old_page_and_an_empty_file_are_written_whole(tmp_path: Path) -> None:
    (tmp_path / "old.html").write_text("  <!DOCTYPE HTML>old")
    (tmp_path / "empty.html").touch()
    for name in ("new/deep/page.html", "old.html", "empty.html", "n" * 255):
        write(tmp_path / name)
        assert (tmp_path / name).read_text() == NEW
    assert not [path for path in tmp_path.rglob("*") if ".tmp-" in path.name]


def test_links_are_followed_and_stay(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "page.html").symlink_to("elsewhere/real.html")  # first to nothing, then to a page
    for _ in range(2):
        write(tmp_path / "page.html")
        assert os.readlink(tmp_path / "page.html") == "elsewhere/real.html"
        assert (tmp_path / "elsewhere" / "real.html").read_text() == NEW


def test_devices_are_written_in_place() -> None:
    before = os.stat("/dev/null")
    write(Path("/dev/null"))
    assert (os.stat("/dev/null").st_rdev, os.stat("/dev/null").st_ino) == (before.st_rdev, before.st_ino)
    with pytest.raises(GrokinterpError, match="no room left to write /dev/full; free some space") as caught:
        write(Path("/dev/full"))
    assert isinstance(caught.value.__cause__, OSError)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


def test_a_pipe_is_written_to_its_reader_and_never_waited_for_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe)
    reader.join(timeout=10)
    assert read == [NEW]
    monkeypatch.setattr(outputs, "_PATIENCE", 0.1)
    with pytest.raises(GrokinterpError, match=r"nobody reads the pipe .*pipe; start the reader first"):
        write(pipe)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)


def test_standard_output_may_be_named(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    write(Path(f"/dev/fd/{writing}"))
    os.close(writing)
    with open(reading) as handle:
        assert handle.read() == NEW


RUN = {
    "config.json": "{}",
    "checkpoints/step_00000000.safetensors": "weights",
    "moments/step_00000000.safetensors": "moments",
    "metrics.jsonl": "{}\n",
}


@pytest.mark.parametrize("name", [*RUN, "status.json", "provenance.json", "error.txt", ".lock", "checkpoints/step_00000009.safetensors"])
@pytest.mark.parametrize("through_a_link", [False, True])
def test_files_of_a_run_are_refused_whatever_is_forced(name: str, through_a_link: bool, tmp_path: Path) -> None:
    for file, content in RUN.items():
        (tmp_path / "run" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / file).write_text(content)
    path = tmp_path / "run" / name
    if through_a_link:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    before = everything_in(tmp_path)
    for force in (False, True):
        with pytest.raises(GrokinterpError, match=r"is a file of the run in .*run, which would be lost; choose another name or folder"):
            write(path, force=force)
        assert everything_in(tmp_path) == before
    for other in ("page.html", "checkpoints/page.html"):
        write(tmp_path / "run" / other)


SAMPLES: dict[str, tuple[Kind, Callable[[Path], object]]] = {
    "page": (PAGE, lambda path: path.write_text("<html>")),
    "netcdf": (NETCDF, lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n\0")),
    "parquet": (PARQUET, lambda path: pd.DataFrame({"a": [1]}).to_parquet(path)),
    "svg": (SVG, lambda path: path.write_text('<?xml version="1.0"?>\n<svg></svg>')),
    "core": (CORE, lambda path: CORE_OF_THREE.save(path)),
    "text": (TEXT, lambda path: path.write_text("id,claim\n")),
    "picture": (Kind("a picture", TEXT.begins), lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")),
}


@pytest.mark.parametrize("there", SAMPLES)
@pytest.mark.parametrize("kind", [PAGE, NETCDF, PARQUET, SVG, CORE, TEXT], ids=lambda kind: kind.name)
def test_a_file_of_another_kind_is_overwritten_only_by_force(kind: Kind, there: str, tmp_path: Path) -> None:
    own, make = SAMPLES[there]
    path = tmp_path / "file"
    make(path)
    before = path.read_bytes()
    textual = kind is TEXT and own in (PAGE, SVG, TEXT)  # a page is a text, too
    if kind is own or textual:
        write(path, kind)
        assert path.read_text() == NEW
        return
    with pytest.raises(GrokinterpError, match=rf"exists and is not {kind.name}; choose another name, or overwrite it with --force"):
        write(path, kind)
    assert path.read_bytes() == before
    write(path, kind, force=True)
    assert path.read_text() == NEW


# Where nothing can be written: how it is made below a folder, the path in it, and the words.
OBSTACLES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a folder": (lambda at: (at / "x").mkdir(), "x", "x is a folder; name a file in it"),
    "below a file": (lambda at: (at / "x").touch(), "x/page.html", "leads through something that is not a folder"),
    "far below a file": (lambda at: (at / "x").touch(), "x/y/z/page.html", "leads through something that is not a folder"),
    "a long name": (lambda at: None, "n" * 256, "is too long for its file system; shorten it"),
    "a long folder": (lambda at: None, f"{'n' * 300}/page.html", "is too long for its file system"),
    "a long name in a new folder": (lambda at: None, f"new/{'n' * 256}", "is too long for its file system"),
    "a long path": (lambda at: None, "/".join(["n" * 200] * 30), "is too long for its file system"),
    "a link in a circle": (lambda at: (at / "x").symlink_to("x"), "x", "is a link that leads back to itself"),
}


@pytest.mark.parametrize("what", OBSTACLES)
def test_an_obstacle_is_said_in_a_sentence_before_anything_is_made(what: str, tmp_path: Path) -> None:
    make, name, said = OBSTACLES[what]
    make(tmp_path)
    before = everything_in(tmp_path)
    for attempt in (write, lambda path: check_output(path, PAGE)):
        with pytest.raises(GrokinterpError, match=said) as caught:
            attempt(tmp_path / name)
        assert isinstance(caught.value.__cause__, OSError)
        assert "\n" not in str(caught.value)
        assert everything_in(tmp_path) == before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.ESTALE, errno.EFBIG, errno.EINVAL])
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_what_the_system_refuses_at_the_last_moment_loses_nothing(number: int, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "page.html").write_text("<html>old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        with pytest.raises(GrokinterpError, match=r"page\.html") as caught:
            write(tmp_path / "page.html")
    assert caught.value.__cause__.errno == number  # type: ignore[union-attr]
    assert everything_in(tmp_path) == {"page.html": b"<html>old"}


def test_every_door_of_the_package_asks(tiny_run: Run, tmp_path: Path) -> None:
    """Each function that writes for the user refuses a file of another kind, and says how to overwrite it."""
    report = analyze(tiny_run, progress_bar=False)
    found = Reproduction("paper", "smoke", (Claim("one", "a sentence", "1", (1, 1), budgets=("smoke",)),), {"one": Measurement(1.0)})
    core = CORE_OF_THREE
    file = tmp_path / "paper.md"
    doors: list[Callable[..., object]] = [
        lambda **force: report.save(file, **force),
        lambda **force: report.to_html(file, **force),
        lambda **force: to_html(report.dataset, file, **force),
        lambda **force: found.save(tmp_path, **force),
        lambda **force: core.save(file, **force),
    ]
    for door in doors:
        file.write_bytes(b"\0 a picture")
        with pytest.raises(GrokinterpError, match="overwrite it with --force"):
            door()
        assert file.read_bytes() == b"\0 a picture"
        door(force=True)
        assert file.read_bytes() != b"\0 a picture"
        door()


def test_a_figure_asks_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(go.Figure, "to_image", lambda self, **how: b"<svg></svg>")
    found = Reproduction("paper", "smoke", (), {}, {"main": go.Figure()})
    (tmp_path / "paper-main.svg").write_bytes(b"\x89PNG")
    with pytest.raises(GrokinterpError, match="is not an SVG figure"):
        found.save(tmp_path)
    found.save(tmp_path, force=True)
    assert (tmp_path / "paper-main.svg").read_bytes() == b"<svg></svg>"


def test_the_same_netcdf_as_xarray_writes(tiny_run: Run, tmp_path: Path) -> None:
    report = analyze(tiny_run, progress_bar=False)
    report.dataset.to_netcdf(tmp_path / "theirs.nc", engine="h5netcdf")
    xr.testing.assert_identical(Report.load(report.save(tmp_path / "ours.nc")).dataset, Report.load(tmp_path / "theirs.nc").dataset)
