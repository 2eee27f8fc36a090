"""Tutorials are notebooks: Jupyter opens them, a kernel runs them, Tab completes names, and results show themselves."""

from __future__ import annotations

import shutil
import warnings
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from grokinterp import MEASURES, Run, analyze, plots

jupytext = pytest.importorskip("jupytext", reason="notebooks are tested where the test extra is installed")
nbclient = pytest.importorskip("nbclient", reason="notebooks are tested where the test extra is installed")
pytest.importorskip("ipykernel", reason="notebooks are tested where the test extra is installed")
pytest.importorskip("ipywidgets", reason="notebooks are tested where the test extra is installed")
shell = pytest.importorskip("IPython.core.interactiveshell", reason="notebooks are tested where the test extra is installed")

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "tutorials").glob("[0-9]*.py"))


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_opens_as_a_notebook(tutorial: Path) -> None:
    notebook = jupytext.read(tutorial)
    kinds = [cell.cell_type for cell in notebook.cells]
    assert kinds[0] == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    assert kinds.count("code") >= 4
    assert all(cell.source.strip() for cell in notebook.cells)
    assert jupytext.writes(notebook, fmt="py:percent").count("# %%") == len(notebook.cells)


def test_a_kernel_runs_one_with_a_progress_bar_and_figures(demo_run: Run, tmp_path: Path) -> None:
    shutil.copytree(demo_run.path, tmp_path / "runs" / "demo")
    notebook = jupytext.read(TUTORIALS[0])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the client's own, about event loops
        nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown: list[dict[str, Any]] = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert any("Run runs/demo" in data.get("text/html", "") for data in shown)
    assert any("application/vnd.plotly.v1+json" in data for data in shown)
    assert any("application/vnd.jupyter.widget-view+json" in data for data in shown)  # the bar over checkpoints
    assert "It has generalised." in printed
    assert "Warning" not in printed


def test_tab_completes_measures_variables_and_figures(demo_run: Run) -> None:
    report = analyze(demo_run, ["progress"], steps=demo_run.steps[-2:], progress_bar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        session = shell.InteractiveShell()
        session.run_cell("import grokinterp as gi", silent=True)
        session.push({"report": report})
        session.Completer.use_jedi = False

        def offered(text: str) -> set[str]:
            return {found.removeprefix(text).removeprefix(".") for found in session.complete(text)[1]}

        assert set(MEASURES) <= offered('gi.MEASURES["')
        assert set(MEASURES) <= offered("gi.measures.")
        assert {str(name) for name in report.dataset.data_vars} == offered('report["')
        assert set(report.figures) == offered('report.figures["')
        assert {"demo", "nanda2023"} <= offered("gi.presets.")


def test_a_page_shows_itself_in_a_cell(demo_run: Run) -> None:
    report = analyze(demo_run, ["loss"], steps=demo_run.steps[-2:], progress_bar=False)
    framed = report.page(height=300)
    html = framed._repr_html_()
    assert html.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;')
    assert "height: 300px" in html
    assert framed.html in unescape(html)
    assert len(repr(framed)) < 200
    assert plots.losses(report.dataset).layout.title.text in framed.html
