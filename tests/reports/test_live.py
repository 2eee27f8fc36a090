"""The growing page: what a folder's runs say while they train, who may read it, that nothing is written, and what a browser shows."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from browser import browser

from grokinterp import GrokinterpError, ModelConfig, RunConfig, Watch, presets, train
from grokinterp.cli import main
from grokinterp.plots.parts import STYLES
from grokinterp.reports.live.folder import FolderOfRuns
from grokinterp.training.config import CheckpointSchedule
from grokinterp.training.sweep import grid, sweep


@pytest.fixture(scope="module")
def tiny() -> RunConfig:
    base = presets.nanda2023(p=5, train_fraction=0.6, steps=20)
    return base.with_(model=ModelConfig(d_model=8, n_heads=2, d_mlp=8), eval_every=5, checkpoints=CheckpointSchedule(every=20))


@pytest.fixture(scope="module")
def swept(tiny: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep of four runs, of which one diverges, and a run beside it."""
    folder = tmp_path_factory.mktemp("runs")
    sweep(grid(tiny, {"weight_decay": [0.5, 2.0], "seed": [0, 1]}), folder / "sweep", workers=0, progress_bar=False)
    sweep([tiny.with_(**{"optimizer.lr": 1e30})], folder / "hot", workers=0, progress_bar=False)
    train(tiny, folder / "alone", progress_bar=False)
    return folder


@pytest.fixture
def runs(swept: Path, tmp_path: Path) -> Path:
    """A copy of that folder, with the times of its files."""
    return Path(shutil.copytree(swept, tmp_path / "runs"))


def stats(folder: Path) -> dict[str, tuple[int, ...]]:
    """Every file and folder with its size, inode and times of change."""
    return {str(path): (found.st_size, found.st_ino, found.st_mtime_ns, found.st_ctime_ns) for path in folder.rglob("*") for found in [path.stat()]}


def ask(address: str, method: str = "GET", host: str | None = None) -> tuple[int, str, bytes]:
    """Status, content type and body."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", headers={} if host is None else {"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.headers.get("Content-Type", ""), answer.read()
    finally:
        connection.close()


def state_of(address: str, quantity: str = "test_loss") -> dict[str, Any]:
    status, kind, body = ask(f"{address}state?quantity={quantity}")
    assert (status, kind) == (200, "application/json; charset=utf-8")
    found: dict[str, Any] = json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    return found


def by_name(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{group['name']}/{run['name']}": run for group in state["groups"] for run in group["runs"]}


# ---- what it says -----------------------------------------------------------------------------------------------------


def test_every_run_is_there_with_its_state_its_curve_and_what_tells_it_apart(runs: Path, tiny: RunConfig) -> None:
    shutil.rmtree(next((runs / "sweep").glob("*/config.json")).parent)  # to save room: what the table knows of it stays
    before = stats(runs)
    with Watch(runs) as served:
        state = state_of(served.address, "train_loss")
    groups = {group["name"]: group for group in state["groups"]}
    assert groups.keys() == {"runs", "sweep", "hot"}
    assert groups["sweep"]["counts"] == {"finished": 4}
    assert (groups["sweep"]["done"], groups["sweep"]["left"]) == (1, None)
    assert {run["label"] for run in groups["sweep"]["runs"]} == {f"weight_decay={decay:g}, seed={seed}" for seed in (0, 1) for decay in (0.5, 2.0)}
    (hot,) = groups["hot"]["runs"]
    assert hot["state"] == "diverged"
    assert "train loss is" in hot["why"]
    (alone,) = groups["runs"]["runs"]
    rows = [json.loads(line) for line in (runs / "alone" / "metrics.jsonl").read_text().splitlines()]
    assert (alone["x"], alone["y"]) == ([row["step"] for row in rows], [row["train_loss"] for row in rows])
    assert (alone["label"], alone["step"], alone["steps"], alone["last"]["test_loss"]) == ("alone", 20, 20, rows[-1]["test_loss"])
    assert set(state["quantities"]) == rows[-1].keys() - {"step"}
    assert stats(runs) == before


def test_a_run_is_followed_row_by_row_and_through_a_resumption(runs: Path) -> None:
    """Rows are added, a line is half written, the run is killed and goes on from an earlier row in a file of its own."""
    run, followed = runs / "alone", FolderOfRuns(runs / "alone")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "status.json").unlink()

    def seen() -> dict[str, Any]:
        followed._looked = -np.inf
        return by_name(followed.state("train_loss"))["runs/alone"]

    (run / "metrics.jsonl").write_text(lines[0])
    assert seen()["x"] == [0]
    with open(run / "metrics.jsonl", "a") as file:
        for text, steps in ((lines[1][:9], [0]), (lines[1][9:] + lines[2], [0, 5, 10]), (lines[3], [0, 5, 10, 15])):
            file.write(text)
            file.flush()
            assert seen()["x"] == steps
    assert seen()["state"] == "training"
    (run / "new").write_text("".join(lines[:2]))
    os.replace(run / "new", run / "metrics.jsonl")
    assert seen()["x"] == [0, 5]
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 5}\n')
    assert (seen()["state"], seen()["why"]) == (
        "failed",
        f"line 3 of {run}/metrics.jsonl is no row of metrics that follows the line before; restore the file",
    )
    shutil.rmtree(run)
    assert followed.state("train_loss") is not None


def test_pace_and_the_time_that_is_left(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 steps of 100 in 40 seconds leave 160; two runs wait, so 360 steps are left at half a step a second. Silence ends it."""
    folder = runs / "sweep"
    for number, path in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**config, "steps": 100}))
        (path / "status.json").unlink()
        if number == 0:
            os.utime(path / "provenance.json", (1000, 1000))
            os.utime(path / "metrics.jsonl", (1040, 1040))
        elif number == 1:
            (path / "error.txt").write_text("Traceback\nRuntimeError: no luck\n")
        else:
            (path / "metrics.jsonl").unlink()
    states = {}
    for now in (1041, 1069, 1141):  # a row took ten seconds, so patience is a hundred
        monkeypatch.setattr("time.time", lambda now=now: now)
        (group,) = FolderOfRuns(folder).state("test_loss")["groups"]
        states[now] = (group["left"], [(run["state"], run["left"]) for run in group["runs"]])
    assert states[1041] == states[1069] == (560, [("training", 160), ("failed", None), ("unfinished", None), ("unfinished", None)])
    assert states[1141] == (None, [("unfinished", None), ("failed", None), ("unfinished", None), ("unfinished", None)])
    assert group["runs"][1]["why"] == "RuntimeError: no luck"
    assert group["done"] == pytest.approx((0.2 + 1 + 0 + 0) / 4)


def test_what_cannot_be_read_is_said_and_the_rest_is_shown(runs: Path) -> None:
    (runs / "alone" / "config.json").write_text("{")
    (runs / "sweep" / "results.parquet").write_text("nothing")
    (runs / "gpt2").mkdir()
    (runs / "gpt2" / "config.json").write_text("{}")  # a model of somebody else
    os.mkfifo(next((runs / "sweep").glob("*/metrics.jsonl")).with_name("error.txt"))
    with Watch(runs) as served:
        state = state_of(served.address)
    found = by_name(state)
    assert len(found) == 6
    assert found["runs/alone"]["state"] == "failed"
    assert "config.json is not readable as JSON" in found["runs/alone"]["why"]
    (group,) = [group for group in state["groups"] if group["name"] == "sweep"]
    assert "is not the table of a sweep" in group["problem"]
    assert group["counts"] == {"finished": 4}


# ---- who may read it ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(swept: Path) -> Iterator[Watch]:
    with Watch(swept) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "host", "method", "status"),
    [
        ("", None, "GET", 200),
        ("", "localhost:1", "GET", 200),
        ("state", None, "GET", 200),
        ("plotly.js", None, "HEAD", 200),
        ("../wrong/", None, "GET", 403),
        ("../", None, "GET", 403),
        ("../state", None, "GET", 403),
        ("", "evil.example", "GET", 403),
        ("", "evil.example:80", "GET", 403),
        ("../../etc/passwd", None, "GET", 403),
        ("config.json", None, "GET", 404),
        ("sweep/../../etc/passwd", None, "GET", 404),
        ("", None, "POST", 501),
        ("state", None, "PUT", 501),
        ("", None, "DELETE", 501),
    ],
)
def test_only_who_knows_the_address_reads_and_nobody_writes(served: Watch, path: str, host: str | None, method: str, status: int) -> None:
    root, token = served.address.rstrip("/").rsplit("/", 1)
    address = f"{root}/{path.removeprefix('../')}" if path.startswith("../") else f"{root}/{token}/{path}"
    assert ask(address, method, host)[0] == status


def test_it_listens_on_this_machine_alone_under_an_address_of_its_own(served: Watch, swept: Path) -> None:
    assert served._server.server_address[0] == "127.0.0.1"
    token = served.address.rstrip("/").rpartition("/")[2]
    assert len(token) >= 32
    with Watch(swept) as other:
        assert token not in other.address
        with pytest.raises(GrokinterpError, match=r"port \d+ of 127\.0\.0\.1"):
            Watch(swept, port=other._server.server_address[1])
    with pytest.raises(ConnectionRefusedError):
        ask(other.address)
    assert served.address in served._repr_html_()


@pytest.mark.parametrize(("arguments", "said"), [(["nowhere"], "nowhere is not a folder"), ([".", "--port", "70000"], "from 0 to 65535; got 70000")])
def test_a_bad_folder_or_port_is_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_command_prints_the_address_and_ends_with_an_interrupt(
    swept: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_and_interrupt(served: Watch) -> None:
        assert state_of(served.address)["groups"]
        raise KeyboardInterrupt

    monkeypatch.setattr(Watch, "wait", look_and_interrupt)
    assert main(["watch", str(swept)]) == 0
    assert capsys.readouterr().out.startswith("Open http://127.0.0.1:")


# ---- what a browser shows -------------------------------------------------------------------------------------------------

SUMMARY = "[...document.querySelectorAll('section')].map(s => s.querySelector('.summary').textContent).join()"


def test_a_sweep_is_followed_to_its_end_in_two_browsers(tiny: RunConfig, tmp_path: Path) -> None:
    """24 runs train while the page is open; a second browser comes, the first reloads; the pages say the same and nothing is written by them.

    Eight train at a time, so that most of the time goes to what is shown; where the page need not show that it asks by itself, it is told to.
    """
    configs, out = grid(tiny, {"weight_decay": [0.1, 0.3, 1, 3], "seed": range(6)}), tmp_path / "runs" / "sweep"
    assert len(configs) == 24
    out.parent.mkdir()
    go, trained = threading.Event(), threading.Thread(target=lambda: (go.wait(), sweep(configs, out, workers=0, ensemble=8, progress_bar=False)))
    trained.start()
    try:
        with Watch(out.parent) as served, browser(tmp_path / "one") as page:
            page.open(served.address)
            page.until("document.body.innerText.includes('No run yet in')")
            go.set()
            counts = []
            while trained.is_alive():
                page.run("ask()")
                counts.append(page.run(SUMMARY))
                trained.join(0.1)
            assert any("24 runs: " in said and "absent" in said for said in counts), counts  # in the middle of it
            page.until(f"{SUMMARY} === '24 runs: 24 finished'")
            assert page.run("document.querySelectorAll('tbody tr').length") == 24
            assert page.run("document.querySelectorAll('.scatterlayer .trace').length") == 24
            assert page.run("document.querySelector('progress').value") == 1
            kept = stats(out)
            second = page.another()
            for each in (second, page):
                each.open(served.address)
                each.until(f"{SUMMARY} === '24 runs: 24 finished'")
            assert second.console == []
            page.run("document.querySelector('tbody input').click()")
            assert page.until("document.querySelector('.plot').data.filter(trace => trace.visible).length === 23")
            page.run("(quantity.value = 'test_accuracy', quantity.dispatchEvent(new Event('change')))")
            page.run("ask()")
            page.until("document.querySelector('.ytitle')?.textContent === 'test accuracy'")
            for width in (390, 1400):
                page.size(width)
                assert not page.run("document.documentElement.scrollWidth > innerWidth")
            assert page.console == []
            assert all(address.startswith((served.address, "data:", "blob:")) for address in page.requests)
            assert stats(out) == kept
    finally:
        go.set()
        trained.join()


def test_the_page_outlives_the_server_and_colours_are_those_of_the_figures(swept: Path, tmp_path: Path) -> None:
    served = Watch(swept)
    try:
        with browser(tmp_path / "profile") as page:
            page.open(served.address)
            page.until("document.querySelectorAll('.scatterlayer .trace').length >= 5")
            assert page.run("document.querySelector('.plot').data[0].line.color") == STYLES[0][0]
            assert "diverged" in page.run("document.body.innerText")
            served.close()
            page.run("ask()")
            page.until("document.getElementById('said').textContent.startsWith('No answer since')")
            assert page.run("document.querySelectorAll('tbody tr').length") == 6  # what was known stays
    finally:
        served.close()
