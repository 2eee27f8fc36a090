"""The page of several runs in a browser: switches hide runs, maps go from run to run and from step to step, and ten runs stay small."""

from __future__ import annotations

import json
from pathlib import Path

from browser import browser
from pages import RUNS, ten_runs
from plots.test_plots import make_dataset
from test_report import open_headless

from grokinterp import Comparison, Report
from grokinterp.reports.several import config_of

PROBE = """<script>
addEventListener("ready", () => {
  drawAll();
  const own = trace => trace.meta && trace.visible !== false && trace.x[0] !== null;
  const visible = name => plotOf(name).data.filter(own).map(trace => trace.meta.run);
  const seen = name => JSON.stringify(plotOf(name).data[0].z);
  const box = document.querySelector("[data-run]");
  const before = new Set(visible("losses")).size;
  box.checked = false;
  box.dispatchEvent(new Event("change"));
  const after = [...new Set(visible("losses"))];
  const first = seen("logits_2d"), select = document.querySelector('select[data-for="logits_2d"]');
  select.selectedIndex = 1;
  select.dispatchEvent(new Event("change"));
  const second = seen("logits_2d"), slider = document.querySelector('[data-steps="logits_2d"]');
  slider.value = 0;
  slider.dispatchEvent(new Event("input"));
  const keys = () => plotOf("embedding_spectrum").layout.annotations.map(note => note.text).join();
  const spectrum = document.querySelector('select[data-for="embedding_spectrum"]'), named = [keys()];
  spectrum.selectedIndex = 2;
  spectrum.dispatchEvent(new Event("change"));
  named.push(keys());
  const probe = {
    named, before, after,
    hidden: box.dataset.run, run: first !== second, step: second !== seen("logits_2d"), said: slider.nextElementSibling.textContent,
    at: Number(slider.getAttribute("max")), drawn: plots.filter(plot => plot.querySelector("svg")).length, plots: plots.length,
    wide: document.documentElement.scrollWidth > innerWidth,
  };
  answer(probe);
});
</script></body>"""


def runs(n: int) -> dict[str, Report]:
    """Reports that differ in seed and in every number."""
    found = {}
    for seed in range(n):
        dataset = (make_dataset() * (1 + 0.1 * seed)).assign_coords(key_frequency=[2, 3 + seed])
        dataset.attrs = {"title": f"run {seed}", "summary": "", "config": json.dumps({"seed": seed}), "provenance": "{}", "failures": "{}"}
        found[f"seed={seed}"] = Report(dataset)
    return found


def test_a_browser_switches_runs_and_goes_through_steps(tmp_path: Path) -> None:
    comparison = Comparison(runs(3))
    assert [config_of(report.dataset)["seed"] for report in comparison.reports.values()] == [0, 1, 2]
    probe, console = open_headless(comparison.to_html(tmp_path / "runs.html"), tmp_path / "profile", PROBE)
    assert console == []
    assert (probe["before"], probe["hidden"], probe["after"]) == (3, "seed=0", ["seed=1", "seed=2"])
    assert probe["named"] == ["2,3", "2,5"]  # the key frequencies are those of the run that is shown
    assert probe["run"]
    assert probe["step"]
    assert (probe["said"], probe["at"]) == ("step 0", 4)
    assert probe["drawn"] == probe["plots"] == len(comparison.figures)
    assert not probe["wide"]


def test_the_page_of_ten_runs_and_forty_checkpoints_is_small(tmp_path: Path) -> None:
    page = ten_runs().to_html(tmp_path / "runs.html")
    assert page.stat().st_size < 15e6
    assert page.read_text(encoding="utf-8").count("<option>") == 3 * RUNS


def test_only_figures_near_the_screen_are_drawn(tmp_path: Path) -> None:
    """So that a page opens as fast with forty figures as with four; the others are drawn when the reader comes to them."""
    comparison = Comparison(runs(2))
    path = comparison.to_html(tmp_path / "runs.html")
    drawn = "plots.filter(plot => plot.querySelector('.main-svg')).length"
    with browser(tmp_path / "profile") as page:
        for width in (390, 1400):
            page.size(width)
            page.open(path.as_uri())
            page.until(f"document.documentElement.dataset.ready && {drawn} && !waiting.size")
            assert 1 <= page.run(drawn) < len(comparison.figures) / 2
        page.run("void plots.at(-1).scrollIntoView()")
        page.until("plots.at(-1).querySelector('.main-svg') && !waiting.size")
        assert page.run(drawn) < len(comparison.figures)  # those in between were passed by
        page.run("drawAll()")
        right = "getBoundingClientRect().right"
        assert page.run(f"plots.filter(plot => plot.querySelector('.main-svg').{right} > plot.{right} + 1).map(plot => plot.dataset.figure)") == []
        assert not page.run("document.documentElement.scrollWidth > innerWidth")
        assert page.console == []


def test_names_of_runs_have_the_colour_of_text_in_the_dark(tmp_path: Path) -> None:
    """Plotly gives labels inside the axes a grey of its own, which cannot be read on black."""
    path = Comparison(runs(2)).to_html(tmp_path / "runs.html")
    with browser(tmp_path / "profile") as page:
        page.size(1400, dark=True)
        page.open(path.as_uri())
        page.until("document.querySelector('[data-figure=onsets] .ytick text')")
        label, ink = page.run(
            "['[data-figure=onsets] .ytick text', 'body'].map((name, i) => getComputedStyle(document.querySelector(name))[i ? 'color' : 'fill'])"
        )
        assert label == ink


def test_a_run_that_lacks_a_figure_is_left_out_of_it(tmp_path: Path) -> None:
    whole, other = runs(2).values()
    bare = Report(other.dataset[["metric_train_loss", "metric_test_loss", "loss"]].assign_attrs(other.dataset.attrs))
    comparison = Comparison({"whole": whole, "bare": bare})
    assert {(trace.meta or {}).get("run") for trace in comparison.plot("losses").data} >= {"whole", "bare"}
    assert comparison.panels["logits_2d"].keys() == {"whole"}
    assert comparison.to_html(tmp_path / "runs.html").exists()
