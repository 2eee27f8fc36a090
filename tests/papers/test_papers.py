"""Claims and verdicts, and every paper's smallest budget run for real."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pytest

from grokinterp import GrokinterpError
from grokinterp.papers import PAPERS, Claim, Measurement, Reproduction, reproduce

CLAIMS = (
    Claim("inside", "a number that we meet", "2", (1, 3), "steps"),
    Claim("outside", "a number that we do not meet", "5", (4, 6)),
    Claim("absent", "a number that was not measured", "7", (7, 7)),
)


def test_verdicts_follow_the_interval_and_nothing_is_left_out(tmp_path: Path) -> None:
    found = {"inside": Measurement(3.0, 2.5, 3.5, n=4, note="four seeds"), "outside": Measurement(3.99)}
    result = Reproduction("paper", "smoke", CLAIMS, found, tables={"runs": pd.DataFrame({"x": [1, 2]})})
    table = result.table()
    assert table["verdict"].to_dict() == {"inside": "reproduced", "outside": "differs", "absent": "not run"}
    assert table.loc["inside", "ours"] == "3 [2.5, 3.5]"
    page = result.save(tmp_path).read_text()
    assert "grokinterp reproduce paper --budget smoke" in page
    assert all(claim.sentence in page for claim in CLAIMS)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["paper-runs.csv", "paper.csv", "paper.md"]
    assert "differs" in str(result)
    with pytest.raises(GrokinterpError, match="without a claim: stranger"):
        Reproduction("paper", "smoke", CLAIMS, {"stranger": Measurement(1.0)})


def test_a_figure_that_cannot_be_drawn_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_chrome(self: go.Figure, **_: object) -> bytes:
        raise RuntimeError("Chrome not found")

    monkeypatch.setattr(go.Figure, "to_image", no_chrome)
    result = Reproduction("paper", "smoke", CLAIMS, {}, figures={"curve": go.Figure()})
    with pytest.raises(GrokinterpError, match="pip install kaleido"):
        result.save(tmp_path)
    assert (tmp_path / "paper.csv").exists()


def test_unknown_names_are_named(tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match="unknown paper 'nanda'; did you mean nanda2023"):
        reproduce("nanda", "smoke", tmp_path)
    with pytest.raises(GrokinterpError, match="unknown budget 'smok'; did you mean smoke"):
        reproduce("nanda2023", "smok", tmp_path)


@pytest.fixture(scope="module", params=PAPERS)
def smoke(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    return reproduce(request.param, "smoke", tmp_path_factory.mktemp(request.param))


def test_smoke_budget_measures_something_and_lists_everything(smoke: Reproduction) -> None:
    table = smoke.table()
    assert len(table) == len(smoke.claims)
    assert (table["verdict"] != "not run").any()
    assert all(not math.isnan(measurement.value) for measurement in smoke.found.values())


def test_nanda2023_in_small_is_the_papers_story(smoke: Reproduction) -> None:
    if smoke.paper == "nanda2023":
        verdicts = smoke.table()["verdict"]
        assert verdicts[["groks", "phases", "fve", "restricted", "excluded"]].tolist() == ["reproduced"] * 5


def test_counts_and_epochs_are_written_in_full() -> None:
    assert str(Measurement(52_530.4)) == "52,530"
    assert str(Measurement(85_208_161, 0.98765, 1_234.5)) == "85,208,161 [0.9877, 1,234]"
    assert str(Measurement(-0.012345)) == "-0.01235"
    assert str(Measurement(float("nan"))) == "nan"
    assert str(Measurement(1, 0, float("inf"))) == "1 [0, inf]"
