"""Saved reports read back: netCDF files of anybody's, opened only as far as they hold plain arrays of their own and of bounded size."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import xarray as xr

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError
from grokinterp.files import parse_json, regular_file
from grokinterp.reports.words import Phases

LIMIT = 1 << 30
"""Bytes that a saved report may have, and that its arrays may take in memory; pass another limit for a larger one."""

_PATIENCE = 15.0  # seconds that a look at the file may take, and one more for every 50 MB (chosen here)
_TEXTS, _OBJECTS = ("title", "summary"), ("config", "provenance", "failures")  # every report has them, the latter as JSON objects
_REMEDY = "make one with report.save(path)"


def read_dataset(path: str | Path, limit: int = LIMIT) -> xr.Dataset:
    """The dataset of a saved report, as arrays in memory.

    Another process looks at the file first: external links and external storage could bring other files of the reader's into the report,
    a sparse array claims more than the file holds, and some damaged files keep the HDF5 library busy for ever.

    Args:
        path: a file that `Report.save` wrote.
        limit: bytes, of the file and of its arrays.

    Raises:
        GrokinterpError: the file is missing, not a file, not netCDF, larger than `limit`; it reaches outside itself; it is no report of ours.
    """
    path = regular_file(path, limit)
    _look(path, limit)
    try:
        # decode_times: a measure has no dates, and a foreign "units" would make some of its numbers.
        with xr.open_dataset(path, engine="h5netcdf", decode_times=False) as dataset:
            found = dataset.load()
    except Exception as error:  # whatever a foreign file makes three libraries trip over
        raise GrokinterpError(f"{path} is not a saved report ({' '.join(str(error).split())[:200]}); {_REMEDY}") from error
    _check_is_report(found, path)
    return found


def _look(path: Path, limit: int) -> None:
    """Have `hdf5_probe` read the file once; raise unless it finds plain arrays alone, in time and in memory."""
    patience = _PATIENCE + path.stat().st_size / 50e6
    command = [sys.executable, str(Path(__file__).with_name("hdf5_probe.py")), str(path), str(limit)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience, stdin=subprocess.DEVNULL, check=False)
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise GrokinterpError(f"{path} is damaged: reading it does not end within {patience:.0f} seconds; {_REMEDY}") from None
    except ValueError:
        raise GrokinterpError(f"{path} is damaged: reading it ended the process that tried (exit status {done.returncode}); {_REMEDY}") from None
    if "error" in answer:
        raise GrokinterpError(f"{path} is not a saved report ({answer['error']}); {_REMEDY}")
    if answer["fault"] is not None:
        raise GrokinterpError(f"{path} was not opened: {answer['fault']}; {_REMEDY}")


def _check_is_report(found: xr.Dataset, path: Path) -> None:
    if "step" not in found.dims:
        raise GrokinterpError(f"{path} is a netCDF file but not a report of grokinterp: it has no dimension step")
    foreign = f"{path} is a netCDF file but not a report of grokinterp"
    for name in _TEXTS + _OBJECTS:
        if not isinstance(found.attrs.get(name), str):
            raise GrokinterpError(f"{foreign}: it has no {name}")
    for name in (*_OBJECTS, *({"phases"} & found.attrs.keys())):
        value = parse_json(str(found.attrs[name]), f"the {name} in {path}")
        if not isinstance(value, dict) or (name == "phases" and value.keys() != {field.name for field in fields(Phases)}):
            raise GrokinterpError(f"{foreign}: its {name} are {shown(value)}")
