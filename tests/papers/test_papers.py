"""Claims and verdicts, and every paper's smallest budget run for real."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from smoke_checks import lists_everything

from grokinterp import GrokinterpError
from grokinterp.papers import PAPERS, Claim, Measurement, Reproduction, reproduce
from grokinterp.papers.__main__ import pages, reproductions
from grokinterp.papers.claims import Budget, within_budget
from grokinterp.papers.numbers import interval_in_words, typeset
from grokinterp.papers.reproduction import introduction_and_terms, tally_in_words
from grokinterp.papers.sentences import Sentence, sentences_that_hold
from grokinterp.papers.tables import merged, read_tables
from grokinterp.papers.verdicts import overview
from grokinterp.training.config import RunConfig
from grokinterp.training.runs import Run

ANYWHERE: tuple[Budget, ...] = ("smoke", "cpu", "full")
CLAIMS = (
    Claim("inside", "a number that we meet", "2", (1, 3), "steps", ANYWHERE),
    Claim("outside", "a number that we do not meet", "-5", (-6, -4), budgets=ANYWHERE),
    Claim("absent", "a number that was not measured", "7", (7, 7), needs="a larger machine"),
    Claim("found", "what the paper does not say", "not reported", (0, 1), budgets=ANYWHERE, kind="finding"),
    Claim("checked", "what only we care about", "1e-7", (0, 1), budgets=ANYWHERE, kind="calibration"),
)
FOUND = {
    "inside": Measurement(3.0, 2.5, 3.5, n=4, note="four seeds"),
    "outside": Measurement(-3.99),
    "found": Measurement(2.0),
    "checked": Measurement(1.5e-7),
}


def made_up(**changes: object) -> Reproduction:
    settings: dict[str, Any] = {"found": FOUND, "tables": {"runs": pd.DataFrame({"x": [1, 2]})}, "opening": ["It works."], "drawn": ("curve",)}
    return Reproduction("paper", "smoke", CLAIMS, **{**settings, **changes})


def test_verdicts_follow_the_interval_and_only_the_papers_claims_are_reproduced_or_differ(tmp_path: Path) -> None:
    result = made_up()
    table = result.table()
    verdicts = {"inside": "reproduced", "outside": "differs", "absent": "not run", "found": "finding", "checked": "calibration"}
    assert table["verdict"].to_dict() == verdicts
    assert table.loc["inside", ["ours", "accepted"]].tolist() == ["3 [2.5, 3.5] steps", "1 … 3"]
    assert table.loc["outside", ["paper", "accepted", "ours"]].tolist() == ["−5", "−6 … −4", "−3.99"]
    assert table.loc["absent", "note"] == "a larger machine"
    assert table.loc["checked", ["paper", "ours", "value"]].tolist() == ["1 × 10⁻⁷", "1.5 × 10⁻⁷", 1.5e-7]
    assert tally_in_words(result.tally) == "Of 3 claims 1 is reproduced, 1 differs and 1 is not run; beside them 1 finding and 1 calibration."
    assert sorted(file.name for file in result.save(tmp_path).parent.iterdir()) == ["paper-runs.csv", "paper.csv", "paper.md"]
    assert "differs" in str(result)


def test_a_page_opens_with_what_was_found_and_closes_with_calibrations(tmp_path: Path) -> None:
    page = made_up().save(tmp_path).read_text()
    order = [
        "It works.",
        "**Of 3 claims",
        "](paper-curve.svg)",
        "## What the paper claims",
        "## Findings",
        "## Not run",
        "## Calibration",
        "## Behind",
    ]
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order)
    assert "grokinterp reproduce paper --budget smoke" in page
    assert all(claim.sentence in page for claim in CLAIMS)
    assert "| a number that was not measured | 7 | 7 | a larger machine |" in page


def test_what_a_budget_has_no_say_in_is_refused() -> None:
    with pytest.raises(GrokinterpError, match="without a claim: stranger"):
        made_up(found={"stranger": Measurement(1.0)})
    with pytest.raises(GrokinterpError, match="no say in them: absent"):
        made_up(found={"absent": Measurement(7.0)})
    assert within_budget({"absent": Measurement(7.0)}, CLAIMS, "smoke") == {}
    assert within_budget({"absent": Measurement(7.0)}, CLAIMS, "cpu").keys() == {"absent"}


def test_a_figure_that_cannot_be_drawn_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_chrome(self: go.Figure, **_: object) -> bytes:
        raise RuntimeError("Chrome not found")

    monkeypatch.setattr(go.Figure, "to_image", no_chrome)
    with pytest.raises(GrokinterpError, match="pip install kaleido"):
        made_up(figures={"curve": go.Figure()}).save(tmp_path)
    assert (tmp_path / "paper.csv").exists()
    assert (tmp_path / "paper.md").exists()


def test_unknown_names_are_named(tmp_path: Path) -> None:
    with pytest.raises(GrokinterpError, match="unknown paper 'nanda'; did you mean nanda2023"):
        reproduce("nanda", "smoke", tmp_path)
    with pytest.raises(GrokinterpError, match="unknown budget 'smok'; did you mean smoke"):
        reproduce("nanda2023", "smok", tmp_path)  # type: ignore[arg-type]
    with pytest.raises(GrokinterpError, match="are about none of them"):
        reproduce("nanda2023", "smoke", tmp_path, tables=tmp_path)
    with pytest.raises(GrokinterpError, match=r"holds no table of finished runs of geometric2026, like geometric2026-runs\.csv"):
        reproduce("geometric2026", "cpu", tmp_path, tables=tmp_path)


# --- numbers, sentences, tables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measurement", "unit", "text"),
    [
        (Measurement(52_530.4), "epochs", "52,530 epochs"),
        (Measurement(85_208_161, 0.98765, 1_234.5), "", "85,208,161 [0.9877, 1,234]"),
        (Measurement(-0.012345), "nats", "−0.01235 nats"),
        (Measurement(1.823e-6), "", "1.823 × 10⁻⁶"),
        (Measurement(math.nan, n=3), "steps", "never"),
        (Measurement(math.nan), "nats", "none"),
        (Measurement(1, 0, math.inf), "", "1 [0, ∞]"),
        (Measurement(52_530, note="one run"), "%", "52,530 %"),
    ],
)
def test_one_format_for_all_numbers(measurement: Measurement, unit: str, text: str) -> None:
    assert measurement.in_unit(unit) == text


def test_names_keep_their_signs_and_numbers_do_not() -> None:
    assert typeset("s5-sphere-0-lr1e-3-t30: -0.8, p = 1.8e-06") == "s5-sphere-0-lr1e-3-t30: −0.8, p = 1.8 × 10⁻⁶"
    assert typeset("without rms-1-1e-4, rms-1-6e-4: [-1e-4, 2]") == "without rms-1-1e-4, rms-1-6e-4: [−1 × 10⁻⁴, 2]"


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        ((3, 3), "3"),
        ((0.7, 2_800), "0.7 … 2,800"),
        ((-math.inf, -5_000), "at most −5,000"),
        ((1.2, math.inf), "at least 1.2"),
        ((1 + 1e-9, math.inf), "above 1"),
        ((-math.inf, -1e-9), "below 0"),
        ((1e-9, 1.0), "above 0 to 1"),
        ((0.1 + 0.2, 442.00000000000006), "0.3 … 442"),
        ((0, 1e-9), "0 … 1 × 10⁻⁹"),
        ((1e-8, 1e-5), "1 × 10⁻⁸ … 1 × 10⁻⁵"),
        ((-math.inf, math.inf), "any"),
    ],
)
def test_intervals_are_said_in_words(accept: tuple[float, float], text: str) -> None:
    assert interval_in_words(*accept) == text


def test_a_sentence_is_said_with_its_numbers_where_it_holds() -> None:
    group = (Sentence("{inside} of {inside.n} [{inside.low}]", "inside > 5"), Sentence("only {outside:.1f}, {inside:.0%}"))
    assert sentences_that_hold([group, (Sentence("{absent}"),)], FOUND) == ["only −4.0, 300 %"]
    assert sentences_that_hold([group], {**FOUND, "inside": Measurement(7.0, 6, 8, n=2)}) == ["7 of 2 [6]"]
    assert sentences_that_hold([group], {**FOUND, "inside": Measurement(math.nan)}) == []


@pytest.mark.parametrize(
    ("holds", "said"),
    [
        ("", True),
        ("inside accepted", True),
        ("inside accepted, outside accepted", False),
        ("outside < inside <= 3", True),
        ("inside < 3", False),
        ("outside < 0, inside == 3, found > 1.5", True),
        ("absent < 1", False),
        ("absent >= 1", False),
        ("absent accepted", False),
    ],
)
def test_a_sentence_says_when_it_holds(holds: str, said: bool) -> None:
    assert (Sentence("so it is", holds).filled(FOUND, CLAIMS) is not None) == said


def test_rows_add_up_and_those_of_a_folder_count() -> None:
    known = pd.DataFrame({"run": ["a", "b"], "grok": [1.0, 2.0]})
    fresh = pd.DataFrame({"run": ["b", "c"], "grok": [2.5, 3.0]})
    named = known.set_index(pd.Index(["x", "y"])), fresh.set_index(pd.Index(["y", "z"]))
    tables = merged({"both": known, "kept": known, "named": named[0]}, {"both": fresh, "new": fresh, "named": named[1], "empty": pd.DataFrame()})
    assert tables.keys() == {"both", "kept", "named", "new"}
    assert tables["both"].to_dict("list") == {"run": ["a", "b", "c"], "grok": [1.0, 2.5, 3.0]}
    assert tables["kept"] is known
    assert tables["new"] is fresh
    assert tables["named"].index.tolist() == ["x", "y", "z"]


# --- what is committed ---------------------------------------------------------------------------------------------------------------

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture(scope="module")
def everything() -> dict[str, Reproduction]:
    """Every paper's reproduction from the tables beside its page; nothing is trained."""
    return {found.paper: found for found in reproductions(RESULTS.parent)}


@pytest.fixture(scope="module", params=PAPERS)
def committed(request: pytest.FixtureRequest, everything: dict[str, Reproduction]) -> Reproduction:
    return everything[request.param]


def test_the_page_of_the_papers_has_their_tallies(everything: dict[str, Reproduction]) -> None:
    """``python -m grokinterp.papers docs`` writes them again."""
    made = pages(RESULTS.parent, list(everything.values()))
    assert (RESULTS.parent / "papers.md").read_text() == made[RESULTS.parent / "papers.md"]
    assert (RESULTS / "verdicts.svg").read_text() == made[RESULTS / "verdicts.svg"]
    n_claims = sum(len(found.claims) for found in everything.values())
    assert made[RESULTS / "verdicts.svg"].count("<rect") == n_claims + 5  # and the legend
    not_run = [claim for found in everything.values() for claim in found.claims if found.verdict(claim) == "not run"]
    assert f"| {len(not_run)} |" in overview(list(everything.values()))


def test_each_page_is_what_its_tables_give(committed: Reproduction) -> None:
    """``python -m grokinterp.papers docs`` writes them again."""
    assert (RESULTS / f"{committed.paper}.md").read_text() == committed.page()
    ours, theirs = committed.table(), pd.read_csv(RESULTS / f"{committed.paper}.csv", index_col=0, keep_default_na=False)
    numbers = ["value", "low", "high"]
    assert ours.drop(columns=numbers).equals(theirs.drop(columns=numbers))
    kept = theirs[numbers].apply(pd.to_numeric)
    np.testing.assert_allclose(ours[numbers].to_numpy(float), kept.to_numpy(float), rtol=1e-6, atol=1e-9)
    for name in committed.drawn:
        assert (RESULTS / f"{committed.paper}-{name}.svg").exists()


def test_each_page_says_what_the_paper_claims_and_defines_its_terms_before_its_tables(committed: Reproduction) -> None:
    introduction, terms = introduction_and_terms(committed.paper)
    assert introduction.startswith(f"# {committed.paper}: ")
    assert terms.count("\n- **") >= 4
    page = committed.page()
    assert page.index("**What we ran**") < page.index("**What came out**") < page.index("## Terms") < page.index("## What the paper claims")


def test_each_page_opens_with_five_sentences_that_hold(committed: Reproduction) -> None:
    assert len(committed.opening) == 5


def test_a_run_that_a_table_knows_is_not_trained_again(committed: Reproduction, tmp_path: Path) -> None:
    module = importlib.import_module(f"grokinterp.papers.{committed.paper}.paper")
    known = read_tables(RESULTS, committed.paper, module.SOURCES)
    assert all(table["run"].notna().all() for table in known.values())
    trained: list[str] = []

    def train_nothing(configs: Sequence[RunConfig], *_: object, **__: object) -> list[Run]:
        trained.extend(config.digest for config in configs)
        return []

    with pytest.MonkeyPatch.context() as patch:
        for part in ("paper", "runs", "chains", "growth"):
            path = f"grokinterp.papers.{committed.paper}.{part}"
            if importlib.util.find_spec(path) is not None and hasattr(importlib.import_module(path), "train_all"):
                patch.setattr(f"{path}.train_all", train_nothing)
        found = module.reproduce("cpu", tmp_path, known)
    assert found.table().equals(committed.table())
    assert not set(trained) & set().union(*(table["run"] for table in known.values()))
    assert bool(trained) == (committed.paper in ("geometric2026", "groups2023"))  # of the others every run of the budget is known


ELSEWHERE = {"cores2026", "fsd2026", "geometric2026", "weightdecay2026", "predictors"}  # their own files run and check their smallest budget


@pytest.fixture(scope="module", params=[paper for paper in PAPERS if paper not in ELSEWHERE])
def smoke(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    return reproduce(request.param, "smoke", tmp_path_factory.mktemp(request.param))


def test_smoke_budget_measures_something_and_lists_everything(smoke: Reproduction) -> None:
    lists_everything(smoke)


def test_nanda2023_in_small_is_the_papers_story(smoke: Reproduction) -> None:
    if smoke.paper == "nanda2023":
        verdicts = smoke.table()["verdict"]
        assert verdicts[["groks", "phases", "fve", "restricted", "excluded"]].tolist() == ["reproduced"] * 5
