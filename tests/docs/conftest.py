"""The demo run, trained once for the tutorials and for every page that opens it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from grokinterp import Run, presets, train


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What `grokinterp demo` trains: the longest thing that the documentation does, so it is done once, also where tests run in several processes.

    GROKINTERP_DEMO_RUN names a folder that keeps it from one session to the next.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(shared / "demo.lock"):
        return train(presets.demo(), os.environ.get("GROKINTERP_DEMO_RUN", shared / "demo"), progress_bar=False)


@pytest.fixture
def empty_folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that is the current one while a test runs."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)
