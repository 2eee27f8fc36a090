"""A film is a film, shows the figure at each of its steps, and says what is missing where it cannot be made."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
from plots.test_plots import make_dataset

from grokinterp import GrokinterpError, Report
from grokinterp.reports.film import stills

ENCODERS = all(importlib.util.find_spec(name) for name in ("kaleido", "imageio", "imageio_ffmpeg", "PIL"))
CHROME = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))


def test_a_still_is_the_figure_of_its_step() -> None:
    report = Report(make_dataset())
    figure = report.plot("logits_2d")
    drawn = list(stills(figure))
    assert [still.layout.title.text for still in drawn] == [f"{figure.layout.title.text}, step {frame.name}" for frame in figure.frames]
    for i, still in enumerate(drawn):
        np.testing.assert_array_equal(still.data[0].z, report["logit_component_norm"].isel(step=i).transpose("component_y", "component_x"))
        assert not still.layout.sliders


@pytest.mark.skipif(not (ENCODERS and CHROME), reason="no grokinterp[film] or no Chrome on this machine")
def test_a_film_is_written(tmp_path: Path) -> None:
    report = Report(make_dataset().isel(step=[0, 4]))
    assert report.animate("neurons", tmp_path / "a.gif").read_bytes().startswith(b"GIF8")
    assert report.animate("neurons", tmp_path / "a.mp4").read_bytes()[4:8] == b"ftyp"


@pytest.mark.skipif(ENCODERS, reason="grokinterp[film] is installed")
def test_a_missing_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match=r"pip install 'grokinterp\[film\]'"):
        Report(make_dataset()).animate("neurons", tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


def test_what_is_no_film_is_refused(tmp_path: Path) -> None:
    report = Report(make_dataset())
    with pytest.raises(GrokinterpError, match=r"a \.gif or an \.mp4; got 'a\.avi'"):
        report.animate("neurons", tmp_path / "a.avi")
    with pytest.raises(GrokinterpError, match=r"'progress' has no frames: .* with frames there are .*logits_2d"):
        report.animate("progress", tmp_path / "a.gif")
    with pytest.raises(GrokinterpError, match=r"has no frames: .* so analyse several steps"):
        Report(make_dataset().isel(step=[0])).animate("logits_2d", tmp_path / "a.gif")
    with pytest.raises(GrokinterpError, match="0 seconds a frame"):
        report.animate("neurons", tmp_path / "a.gif", seconds=0)


@pytest.mark.parametrize("name", ["neuron_map", "neuron_spectrum", "neuron_maps"])
def test_a_figure_that_was_not_measured_names_its_measure(name: str) -> None:
    report = Report(make_dataset())
    assert name not in report.figures
    with pytest.raises(GrokinterpError, match=f"no figure '{name}'; measure 'neuron_maps' draws it, where it applies: name that one in gi.analyze"):
        report.plot(name)
    with pytest.raises(GrokinterpError, match="unknown figure 'logits2d'; did you mean logits_2d"):
        report.plot("logits2d")
