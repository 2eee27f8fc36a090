"""What it costs a browser to open a page: processor time of the thread that also answers the reader, until the first figure stands.

``python -m benchmarks pages`` prints the table; it needs a Chromium, and the checkout for its tests.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from benchmarks.timing import Row
from tests.browser import browser
from tests.pages import ten_runs


def rows(repeats: int = 3) -> list[Row]:
    """The page of ten runs with forty checkpoints each, every time in a browser that has never seen it."""
    with tempfile.TemporaryDirectory() as folder:
        page = ten_runs().to_html(Path(folder) / "runs.html")
        seconds, wall = zip(*(_opened(page, Path(folder) / f"profile {i}") for i in range(repeats)), strict=True)
        megabytes = page.stat().st_size / 1e6
    note = f"{megabytes:.1f} MB; by the clock {median(wall):.2f} s"
    return [Row("a page of 10 runs × 40 checkpoints, until its first figure stands", median(seconds), "seconds", note)]


def _opened(path: Path, profile: Path) -> tuple[float, float]:
    """Seconds of the page's main thread, and of the clock as the page counts it."""
    with browser(profile) as page:
        page.size(1400)
        page.call("Performance.enable", timeDomain="threadTicks")
        page.open(path.as_uri())
        page.until("document.documentElement.dataset.ready && plots.some(plot => plot.querySelector('.main-svg'))", seconds=300)
        metrics = {metric["name"]: metric["value"] for metric in page.call("Performance.getMetrics")["metrics"]}
        return metrics["TaskDuration"], page.run("performance.getEntriesByName('first figure')[0].startTime") / 1000
