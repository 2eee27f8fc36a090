"""The page: one file, no other host, nothing unescaped, every figure drawn, its data for download."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from plots.test_plots import STEPS, make_dataset

from grokinterp.reports.encoding import packed
from grokinterp.reports.figures import figures
from grokinterp.reports.page import _powers_of_ten, to_html
from grokinterp.reports.words import headline, missing

HOSTILE = '</title><script>alert(1)</script> & "quotes" $data'


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.styles: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.styles.append(data)
        elif self._inside != "script":
            self.words.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def with_words(dataset: xr.Dataset) -> xr.Dataset:
    dataset.attrs |= {
        "title": "A run",
        "summary": "First paragraph,\nstill the first.\n\nSecond paragraph.",
        "config": json.dumps({"p": 113, "note": HOSTILE}),
        "provenance": json.dumps({"torch": "2.6"}),
        "failures": json.dumps({"ace": f"no such layer {HOSTILE}"}),
    }
    return dataset


def read(path: Path) -> tuple[Page, dict[str, Any]]:
    html = path.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="figure-data">(.*?)</script>', html, re.DOTALL)
    assert found
    return Page(html), json.loads(found[1])


@pytest.mark.parametrize("n_steps", [1, 5])
def test_the_page_holds_every_figure_with_caption_label_and_button(n_steps: int, tmp_path: Path) -> None:
    dataset = with_words(make_dataset(n_steps))
    path = to_html(dataset, tmp_path / "new" / "report.html")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    page, data = read(path)
    drawn = figures(dataset)
    panels = [tag for tag in page.all("div") if "data-figure" in tag]
    assert [panel["data-figure"] for panel in panels] == list(data) == list(drawn)
    assert all(panel["role"] == "img" and panel["aria-label"] for panel in panels)
    assert [button["data-download"] for button in page.all("button") if "data-download" in button] == list(drawn)
    moving = [name for name, figure in drawn.items() if figure.frames]
    assert [tag["data-steps"] for tag in page.all("input")] == moving == ([] if n_steps == 1 else ["neurons", "logits_2d"])
    assert [link["href"] for link in page.all("a") if (link["href"] or "").startswith("#title-")] == [f"#title-{name}" for name in drawn]
    for figure in drawn.values():
        assert figure.layout.meta["caption"] in page.text
        assert figure.layout.title.text in page.text


def test_the_page_carries_the_numbers_of_the_figures_in_full(tmp_path: Path) -> None:
    dataset = make_dataset()
    _, data = read(to_html(dataset, tmp_path / "report.html"))
    np.testing.assert_array_equal(data["embedding_spectrum"]["panels"][0]["data"][0]["z"], dataset["W_E_norm"].values.T)
    np.testing.assert_array_equal(data["progress"]["panels"][0]["data"][3]["y"], dataset["excluded_loss"].sel(split="train"))


def test_sentences_come_first_then_pictures_then_eight_numbers_and_the_rest_folded(tmp_path: Path) -> None:
    dataset = with_words(make_dataset())
    page, _ = read(to_html(dataset, tmp_path / "report.html"))
    order = [page.text.index(words) for words in ("First paragraph", "On this page", "Loss over training", "Headline numbers", "more numbers")]
    assert order == sorted(order)
    numbers = headline(dataset)
    quoted = [number for number in numbers if not number.aside][:8]
    assert f"{len(numbers) - len(quoted)} more numbers" in page.text
    shown, _, folded = page.text.partition("more numbers")
    for number in numbers:
        words = f"{number.quantity} {number.meaning}".strip()
        assert words in (shown if number in quoted else folded)


def test_maps_are_packed_within_half_a_step_and_keep_their_gaps() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 7))
    values[2, 3] = np.nan
    for kind, most in ((np.uint8, 254), (np.uint16, 65534)):
        held = packed(values, kind)
        q = np.frombuffer(base64.b64decode(held["q"]), kind).reshape(held["shape"]).astype(float)
        back = np.where(q > most, np.nan, held["low"] + (held["high"] - held["low"]) * q / most)
        np.testing.assert_allclose(back, values, atol=(np.nanmax(values) - np.nanmin(values)) / most / 2 + 1e-12)
    assert packed(np.full((2, 2), np.nan), np.uint8)["low"] == 0


def test_frames_are_left_out_evenly_where_they_would_take_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = make_dataset()
    monkeypatch.setattr("grokinterp.reports.encoding.FRAMES", 600)
    _, data = read(to_html(dataset, tmp_path / "report.html"))
    for name in ("neurons", "logits_2d"):
        kept = [frame["name"] for frame in data[name]["panels"][0]["frames"]]
        assert (kept[0], kept[-1]) == ("0", "1,500")
        assert len(kept) < 5


def test_headline_numbers_stand_in_the_table(tmp_path: Path) -> None:
    dataset = with_words(make_dataset())
    page, _ = read(to_html(dataset, tmp_path / "report.html"))
    for number in headline(dataset):
        assert f"{number.quantity} {number.meaning}".strip() in page.text
    assert "First paragraph, still the first. Second paragraph." in page.text


def test_powers_of_ten_are_set_as_such() -> None:
    assert _powers_of_ten("9.2e-09 / 1.5e+12") == "9.2&nbsp;×&nbsp;10<sup>−9</sup> / 1.5&nbsp;×&nbsp;10<sup>12</sup>"
    assert _powers_of_ten("some-e-mail 5e") == "some-e-mail 5e"


def test_an_empty_dataset_still_makes_a_page(tmp_path: Path) -> None:
    page, data = read(to_html(xr.Dataset(), tmp_path / "report.html"))
    assert data == {}
    assert "Headline" not in page.text


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    dataset = with_words(make_dataset())
    dataset.attrs |= {"title": HOSTILE, "summary": HOSTILE}
    dataset = dataset.rename(curvature=HOSTILE)
    path = to_html(dataset, tmp_path / "report.html")
    page, data = read(path)
    assert "<script>alert" not in path.read_text(encoding="utf-8")
    assert len(page.all("script")) == 3
    assert page.text.count(HOSTILE) >= 5
    assert HOSTILE in data


def test_nothing_is_loaded_from_another_host(tmp_path: Path) -> None:
    page, _ = read(to_html(with_words(make_dataset()), tmp_path / "report.html"))
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert re.match(r"#|$", attributes.get(name) or "")
    style = "".join(page.styles)
    assert style
    assert not re.search(r"@import|url\(|//", style)
    (policy,) = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = to_html(make_dataset(), tmp_path / "report.html")
    before = path.read_bytes()

    def fail(*_: Any) -> str:
        raise RuntimeError("half way")

    monkeypatch.setattr("grokinterp.reports.page._page", fail)
    with pytest.raises(RuntimeError):
        to_html(make_dataset(), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


# What a reader would do, done by a script: the theme changes, and every button is pressed; what it would save is kept in the page.
PROBE = """<script>
addEventListener("ready", () => {
  drawAll();
  document.documentElement.style.setProperty("--ink", "rgb(1, 2, 3)");
  dark.dispatchEvent(new Event("change"));
  const saved = {};
  let text = "";
  window.Blob = class { constructor(parts) { text = parts.join(""); } };
  URL.createObjectURL = () => "#";
  HTMLAnchorElement.prototype.click = function () { saved[this.download] = text; };
  for (const button of document.querySelectorAll("button[data-download]")) button.click();
  const walked = {}, shown = {};
  for (const plot of document.querySelectorAll(".plot")) {
    const press = key => plot.dispatchEvent(new KeyboardEvent("keydown", { key }));
    const read = () => plot.nextElementSibling.textContent;
    press("ArrowRight");
    const first = read();
    shown[plot.dataset.figure] = plot.querySelectorAll(".hoverlayer text").length;
    press("ArrowRight");
    const second = read();
    press("ArrowLeft");
    press("ArrowLeft");
    const back = read();
    press("Escape");
    walked[plot.dataset.figure] = [first, second, back, read()];
  }
  const moved = {};
  for (const slider of document.querySelectorAll("[data-steps]")) {
    const plot = plotOf(slider.dataset.steps), seen = () => JSON.stringify(plot.data.map(trace => trace.z ?? trace.y));
    const last = seen();
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
    moved[slider.dataset.steps] = [slider.nextElementSibling.textContent, seen() !== last];
    document.querySelector('[data-play="' + slider.dataset.steps + '"]').click();
  }
  const probe = {
    saved, moved, walked, shown,
    reachable: [...document.querySelectorAll(".plot, button, summary, a[href]")].every(
      element => element.checkVisibility() === false || (element.focus(), document.activeElement === element)),
    drawn: [...document.querySelectorAll(".plot")].filter(plot => plot.querySelector("svg .trace, svg .hm")).length,
    repainted: document.querySelector(".plot .xtitle").style.fill,
    shares: document.querySelectorAll(".modebar-btn[data-title*=hare]").length,
    wide: document.documentElement.scrollWidth > innerWidth,
  };
  answer(probe);
});
</script></body>"""


ANSWER = """<script>
const answer = probe => {
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(probe);
  document.body.append(out);
};
</script>"""


def open_headless(path: Path, profile: Path, probe: str = PROBE) -> tuple[dict[str, Any], list[str]]:
    """What a probe, a script that calls ``answer``, found in a page that Chromium opened, and what the console said."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine to open the page with")
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", ANSWER + probe), encoding="utf-8")
    quiet = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    looks = ("--window-size=500,900", "--virtual-time-budget=10000", "--enable-logging=stderr", "--v=0")
    command = [chromium, "--headless", "--no-sandbox", *quiet, *looks, f"--user-data-dir={profile}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="probe">([^<]*)</pre>', done.stdout)
    assert found, done.stderr
    return json.loads(unescape(found[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("n_steps", [1, 5])
def test_a_browser_draws_every_figure_and_saves_its_data(n_steps: int, tmp_path: Path) -> None:
    dataset = with_words(make_dataset(n_steps, recorded=n_steps > 1))
    names = list(figures(dataset))
    probe, console = open_headless(to_html(dataset, tmp_path / "report.html"), tmp_path / "profile")
    assert console == []
    assert probe["drawn"] == len(names)
    assert probe["repainted"] == "rgb(1, 2, 3)"
    assert probe["shares"] == 0
    moves = {"neurons": ["step 0", True], "logits_2d": ["step 0", True]}
    assert probe["moved"] == (moves if n_steps > 1 else {})
    assert not probe["wide"]

    saved = {name: list(csv.reader(io.StringIO(text))) for name, text in probe["saved"].items()}
    assert list(saved) == [f"{name}.csv" for name in names]
    header, *rows = saved["logits_2d.csv"]
    assert header == ["component of x", "component of y", "norm"]
    norms = dataset["logit_component_norm"].isel(step=-1)
    assert len(rows) == norms.size
    assert all(float(value) == float(norms.sel(component_x=x, component_y=y)) for x, y, value in rows)
    assert probe["reachable"]
    for name, (first, second, back, after_escape) in probe["walked"].items():
        assert probe["shown"][name] > 0, name
        assert first == back, name
        assert second != first or len(saved[f"{name}.csv"]) == 2, name
        assert after_escape == "", name
    x, y = norms["component_x"].values[0], norms["component_y"].values[0]
    assert probe["walked"]["logits_2d"][0] == f"component of x {x}, component of y {y}: {float(norms.sel(component_x=x, component_y=y)):#.4g}"
    if n_steps > 1:
        each = dataset["excluded_loss_each"].values
        assert probe["walked"]["key_frequencies_removed"][0] == f"frequency 2, training steps {STEPS[0]}: {each[0, 0]:#.4g}"
        assert probe["walked"]["key_frequencies_removed"][1] == f"frequency 2, training steps {STEPS[1]}: {each[1, 0]:#.4g}"
        header, *rows = saved["key_frequencies_removed.csv"]
        assert header == ["series", "training steps", "loss (nats)"]
        assert [float(value) for *_, value in rows] == list(dataset["excluded_loss_each"].values.T.flatten())


def test_a_reason_that_several_results_share_stands_once() -> None:
    variables = {name: ("step", [np.nan], {"undefined": reason}) for name, reason in (("a", "no"), ("b", "no"), ("c", "else"), ("d", "no"))}
    dataset = xr.Dataset(variables, coords={"step": [0]}, attrs={"failures": '{"heads": "none", "progress": "none"}'})
    assert missing(dataset) == {"heads and progress do not apply": "none", "a, b and d are not defined": "no", "c is not defined": "else"}
