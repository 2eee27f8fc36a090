"""In a notebook, runs, reports, cores, laws and claims show themselves: their numbers, and nothing that a browser would run."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch

from grokinterp import Report, Run, ace, analyze, laws, train
from grokinterp.notebook import html_table
from grokinterp.papers import Claim, Measurement, Reproduction


class Cells(HTMLParser):
    """Title, paragraphs and rows of cells of a shown table; fails on tags that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("th", "td"):
            self.rows[-1][-1] += data
        else:
            self.words.append(data)


def shown(value: Any) -> Cells:
    return Cells(value._repr_html_())


def test_a_table_escapes_everything() -> None:
    hostile = '<script>alert("1")</script> & </td>'
    cells = Cells(html_table(hostile, [(hostile, 1, hostile)], header=(hostile, "b", "c"), paragraphs=[hostile]))
    assert cells.rows == [[hostile, "b", "c"], [hostile, "1", hostile]]
    assert cells.words == [hostile, hostile]
    assert cells.tags == {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td"}


def test_a_run_shows_its_last_metrics_and_how_it_ended(tiny_run: Run) -> None:
    cells = dict(shown(tiny_run).rows)
    assert cells["state"] == "all 60 steps done"
    assert cells["checkpoints"] == "4, the last at step 60"
    assert float(cells["test loss"]) == float(f"{tiny_run.metrics.test_loss.iloc[-1]:.4g}")
    assert tiny_run.config.digest in cells["digest of the config"]


def test_a_run_that_has_only_begun_shows_itself_too(tiny_run: Run, tmp_path: Path) -> None:
    run = train(tiny_run.config.with_(steps=0), tmp_path / "run", progress_bar=False)
    for file in (run.path / "status.json", run.path / "metrics.jsonl", *(run.path / "checkpoints").iterdir()):
        file.unlink()
    cells = dict(shown(run).rows)
    assert cells["checkpoints"] == "none yet"
    assert cells["state"].startswith("unfinished")


def test_a_report_shows_headline_figures_and_what_does_not_apply(tiny_run: Run) -> None:
    def refuses(snapshot: Any) -> dict[str, float]:
        from grokinterp import GrokinterpError

        raise GrokinterpError("<b>not</b> this one")

    report = analyze(tiny_run, ["progress", refuses], progress_bar=False)
    cells = {row[0]: row[1] for row in shown(report).rows}
    assert cells["refuses does not apply"] == "<b>not</b> this one"
    assert all(cells[number.quantity] == number.value for number in report.headline())
    assert "progress" in cells["figures"].split(", ")
    assert any("training pairs" in words for words in shown(report).words)


def test_a_report_of_a_measure_of_ones_own_shows_itself(clock_model: Callable[..., Any]) -> None:
    model, task = clock_model(7, (1,))
    report = analyze(model, [lambda snapshot: {"two": 2.0}], task=task)
    assert isinstance(report, Report)
    assert {row[0]: row[1] for row in shown(report).rows}["variables"] == "two"


def test_a_core_shows_where_it_acts() -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(5, 3, generator=generator, dtype=torch.float64)).Q
    spectrum = torch.tensor([3.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    core = ace.Core(
        directions=basis, rank=1, spectrum=spectrum, mean=torch.zeros(5, dtype=torch.float64), hook="blocks.0.hook_resid_post", positions=-1
    )
    cells = dict(shown(core).rows)
    assert cells["dimensions"] == "1 of 5"
    assert cells["share of Σ S²"] == "0.900000"
    assert cells["acts on"] == "h at position -1"


def test_a_law_and_claims_show_their_tables() -> None:
    law = laws.power_law(np.array([1.0, 2.0, 4.0, 8.0]), np.array([8.1, 4.0, 2.0, 1.0]))
    rows = shown(law).rows
    assert rows[0] == list(law.table().columns)
    assert [row[0] for row in rows[1:]] == law.table()["quantity"].tolist()
    claim = Claim("one", "a < b", "1", (1, 1), budgets=("smoke", "cpu", "full"))
    found = Reproduction("paper", "smoke", (claim, Claim("two", "not run", "2", (2, 2))), {"one": Measurement(3.0)})
    assert [row[0] for row in shown(found).rows[1:]] == ["a < b", "not run"]
    assert [row[shown(found).rows[0].index("verdict")] for row in shown(found).rows[1:]] == ["differs", "not run"]
