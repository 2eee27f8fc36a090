"""A saved report comes back as it was; a file that reaches outside itself, claims too much or is another's is refused before its arrays are read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from grokinterp import GrokinterpError
from grokinterp.reports import saved
from grokinterp.reports.report import Report

SECRET = "the reader's own file"


def report(**attributes: Any) -> Report:
    arrays = {
        "loss": (("step", "split"), np.array([[1.0, 2.0], [0.5, np.nan]])),
        "flag": ("step", np.array([True, False])),
        "count": ("step", np.array([1, 2])),
    }
    dataset = xr.Dataset(arrays, coords={"step": [0, 10], "split": ["train", "test"]})
    texts = {"title": "A run, μ", "summary": "It learned.", "config": "{}", "provenance": '{"torch": "2"}', "failures": '{"ace": "no"}'}
    dataset.attrs = texts | attributes
    return Report(dataset)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A report as it was saved."""
    (tmp_path / "secret.bin").write_text(SECRET * 100)
    return report().save(tmp_path / "report.nc")


def test_a_report_is_read_back_as_it_was(path: Path) -> None:
    found = Report.load(path)
    xr.testing.assert_identical(found.dataset, report().dataset)
    assert found.failures == {"ace": "no"}
    again = found.save(path.with_name("again.nc"))
    xr.testing.assert_identical(Report.load(again).dataset, found.dataset)


def test_units_of_time_do_not_turn_numbers_into_dates(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["loss"].attrs["units"] = "days since 2000-01-01"
    assert Report.load(path)["loss"].dtype == np.float64


def external_link(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.nc", "w") as other:
        other["secret"] = np.ones(3)
    file["stolen"] = h5py.ExternalLink(str(folder / "other.nc"), "/secret")


def external_storage(file: h5py.File, folder: Path) -> None:
    file.create_dataset("stolen", (100,), "u1", external=[(str(folder / "secret.bin"), 0, 100)])


def virtual(file: h5py.File, folder: Path) -> None:
    with h5py.File(folder / "other.nc", "w") as other:
        other["secret"] = np.ones(3)
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource(folder / "other.nc", "secret", (3,))
    file.create_virtual_dataset("stolen", layout)


def loop(file: h5py.File, folder: Path) -> None:
    file.create_group("inner")
    file["inner/outer"] = file["/"]


def attribute(name: str, value: Any) -> Callable[[h5py.File, Path], None]:
    def write(file: h5py.File, folder: Path) -> None:
        file.attrs[name] = value

    return write


def dataset(**settings: Any) -> Callable[[h5py.File, Path], Any]:
    return lambda file, folder: file.create_dataset("claim", **settings)


SPOILT: dict[str, tuple[Callable[[h5py.File, Path], Any], str]] = {
    "an external link": (external_link, r"was not opened: 'stolen' is a link to another place \(ExternalLink\)"),
    "a soft link": (lambda file, _: file.__setitem__("again", h5py.SoftLink("/loss")), r"'again' is a link to another place \(SoftLink\)"),
    "external storage": (external_storage, r"the values of 'stolen' lie in another file"),
    "external storage in a group": (lambda file, folder: external_storage(file.create_group("inner"), folder), "'stolen' lie in another file"),
    "a virtual array": (virtual, "the values of 'stolen' lie in another file"),
    "a group that holds itself": (loop, "holds itself"),
    "a sparse terabyte": (dataset(shape=(1 << 37,), dtype="f8", chunks=(1 << 10,)), "its arrays take 1,099,511,6.* bytes, and at most 1,073,741,824"),
    "many sparse arrays": (
        lambda file, _: [file.create_dataset(f"x{i}", (1 << 24,), "f8", chunks=(1 << 10,)) for i in range(9)],
        "its arrays take 1,2.* and at most",
    ),
    "a bomb of zeros": (dataset(shape=(1 << 31,), dtype="u1", chunks=(1 << 20,), compression="gzip"), "its arrays take 2,147,"),
    "packing that needs a plugin": (dataset(data=np.ones(8), chunks=(8,), compression="szip"), "packed in a way that this program does not undo"),
    "no failures": (lambda file, _: file.attrs.__delitem__("failures"), "not a report of grokinterp: it has no failures"),
    "a title of numbers": (attribute("title", 3), "it has no title"),
    "config of text": (attribute("config", "p = 7"), "the config in .* is not readable as JSON"),
    "provenance as a list": (attribute("provenance", "[]"), r"its provenance are \[\]"),
    "failures of null": (attribute("failures", "null"), "its failures are None"),
    "deep nesting": (attribute("config", "[" * 10_000), "nested too deep"),
    "phases of something else": (attribute("phases", '{"a": 1}'), r"its phases are \{'a': 1\}"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_what_reaches_outside_or_claims_too_much_is_refused(what: str, path: Path) -> None:
    spoil, said = SPOILT[what]
    if "plugin" in what and not h5py.h5z.filter_avail(h5py.h5z.FILTER_SZIP):
        pytest.skip("this HDF5 was built without szip, so that no file can be packed with it here")
    with h5py.File(path, "a") as file:
        spoil(file, path.parent)
    refused(path, said)


def foreign(path: Path) -> None:
    xr.Dataset({"t2m": ("time", np.zeros(3))}, attrs={"title": "ERA5", "Conventions": "CF-1.7"}).to_netcdf(path, engine="h5netcdf")


def sparse(path: Path) -> None:
    with open(path, "r+b") as handle:
        handle.truncate(1 << 32)


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a foreign netCDF with a title": (foreign, "is a netCDF file but not a report of grokinterp: it has no dimension step"),
    "an empty HDF5 file": (lambda path: h5py.File(path, "w").close(), "not a report of grokinterp"),
    "nothing": (lambda path: path.unlink(), "does not exist"),
    "an empty file": (lambda path: path.write_bytes(b""), "is not a saved report"),
    "text": (lambda path: path.write_text("no report"), "is not a saved report"),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:1_000]), "is not a saved report"),
    "netCDF 3": (lambda path: path.write_bytes(b"CDF\x01" + bytes(100)), "is not a saved report"),
    "4 GB with a hole": (sparse, "has 4,294,967,296 bytes, and a file here has at most 1,073,741,824"),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), "is a pipe, not a file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder, not a file"),
    "a device": (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "is a device, not a file"),
}


@pytest.mark.parametrize("what", FILES)
def test_other_files_are_called_by_their_name(what: str, path: Path) -> None:
    make, said = FILES[what]
    make(path)
    refused(path, said)


def test_a_larger_report_is_read_when_it_is_asked_for(path: Path) -> None:
    with pytest.raises(GrokinterpError, match=r"its arrays take \d+ bytes, and at most|bytes, and a file here has at most 100"):
        Report.load(path, limit=100)
    assert Report.load(path, limit=1 << 20).failures == {"ace": "no"}


@pytest.mark.parametrize(
    ("probe", "said"),
    [
        ("import time; time.sleep(60)", "reading it does not end within 1 seconds"),
        ("import os; os.abort()", r"reading it ended the process that tried \(exit status -6\)"),
        ("x = bytearray(1 << 40)", "reading it ended the process that tried"),
    ],
)
def test_bytes_that_stall_or_crash_the_library_do_not_stall_or_crash_us(probe: str, said: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "hdf5_probe.py").write_text(probe)
    monkeypatch.setattr(saved, "__file__", str(path.parent / "saved.py"))
    monkeypatch.setattr(saved, "_PATIENCE", 1.0)
    refused(path, said)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_one_sentence_or_a_report(seed: int, path: Path) -> None:
    damaged = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(damaged), size=6):
        damaged[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)
    try:
        found = Report.load(path)
    except GrokinterpError as error:
        sentence = str(error)
        assert "\n" not in sentence
    else:
        assert isinstance(found.summary, str)
        assert isinstance(found.failures, dict)


def refused(path: Path, said: str) -> None:
    with pytest.raises(GrokinterpError) as caught:
        Report.load(path)
    assert re.search(said, str(caught.value)), str(caught.value)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
