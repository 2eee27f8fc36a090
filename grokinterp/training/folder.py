"""The files of a run's folder, checked as they are read: file names, rows of metrics, how the run ended, what computed it.

Nothing here writes. Whatever does not read as a run writes it is one sentence that names the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.files import parse_json, read_bytes, read_object, read_tensors_and_facts
from grokinterp.seal import SEAL
from grokinterp.training.config import RunConfig

Kind = Literal["checkpoints", "moments"]
Row: TypeAlias = dict[str, float]

METRICS_LIMIT = 1 << 30  # bytes; at some 200 a row, five million rows
_STEP = re.compile(r"step_(\d{8,})\.safetensors")


def file_of(path: Path, kind: Kind, step: int) -> Path:
    """Where a run keeps the weights or the optimizer's state of a step."""
    return path / kind / f"step_{step:08d}.safetensors"


def steps_in(folder: Path) -> list[int]:
    """The steps that have a file in a folder of checkpoints or moments, ascending; other files are ignored."""
    found = [match for match in map(_STEP.fullmatch, os.listdir(folder)) if match] if folder.is_dir() else []
    return sorted(int(match[1]) for match in found if f"{int(match[1]):08d}" == match[1])


def read_state(path: Path, kind: Kind, step: int, digest: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights or optimizer state of a step, and what the file says of itself; files that older versions wrote say nothing.

    Args:
        path: the run's folder.
        kind: which of the two.
        step: whose.
        digest: of the run's config.

    Raises:
        GrokinterpError: the file is missing or damaged, or it says that it belongs to another run or step.
    """
    file = file_of(path, kind, step)
    tensors, facts = read_tensors_and_facts(file)
    if facts:
        said = (facts.get("kind"), facts.get("step"), facts.get("run"))
        if SEAL not in facts or said != (kind, str(step), digest):
            raise GrokinterpError(
                f"{file} is not what its name says: it holds {facts.get('kind', 'something')} of step {facts.get('step', 'unknown')} of the run "
                f"{facts.get('run', 'unknown')}, not {kind} of step {step} of {digest}; restore it from a copy"
            )
    return tensors, facts


def state_facts(kind: Kind, step: int, digest: str, rows: RowsSum | None = None) -> dict[str, str]:
    """What a file of a run says of itself; with it, of weights, which rows of metrics led up to them."""
    return {"kind": kind, "step": str(step), "run": digest} | ({} if rows is None else {"rows": str(rows.count), "metrics": rows.hexdigest})


class RowsSum:
    """How many rows of metrics there are so far, and the SHA-256 of their text."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self.count, self._sum = 0, hashlib.sha256()
        for row in rows:
            self.add(line_of(row))

    def add(self, line: str) -> None:
        """One more row, as it is written."""
        self.count += 1
        self._sum.update(line.encode())

    @property
    def hexdigest(self) -> str:
        """Of the rows so far."""
        return self._sum.hexdigest()


def line_of(row: Row) -> str:
    """The line of metrics.jsonl that holds a row."""
    return json.dumps(row) + "\n"


def readable_rows(path: Path) -> tuple[list[Row], str | None]:
    """The rows of metrics up to the first that cannot be read, and what is the matter with that one; None where all can.

    A last line that was cut short is left out: a killed writer leaves such a line.
    """
    file = path / "metrics.jsonl"
    if not os.path.lexists(file):
        return [], None
    try:
        content = read_bytes(file, METRICS_LIMIT)
    except GrokinterpError as error:
        return [], str(error)
    return rows_in(content, file)


def rows_in(content: bytes, file: Path, lines_before: int = 0, step_before: float = -1) -> tuple[list[Row], str | None]:
    """The rows in metrics.jsonl from the beginning of some line on, as `readable_rows` gives those of a whole file.

    Args:
        content: what stands there.
        file: its name in a sentence.
        lines_before: how many lines stand before.
        step_before: the step of the last of them.
    """
    rows: list[Row] = []
    # A whole line ends with a newline, so what follows the last newline is nothing or half a line.
    for number, line in enumerate(content.split(b"\n")[:-1], start=lines_before + 1):
        where = f"line {number} of {file}"
        try:
            row = parse_json(line.decode(), where)
        except (GrokinterpError, UnicodeDecodeError) as error:
            return rows, str(error) if isinstance(error, GrokinterpError) else f"{where} is not text"
        if not _is_row(row) or row["step"] <= (rows[-1]["step"] if rows else step_before):
            return rows, f"{where} is no row of metrics that follows the line before; restore the file"
        rows.append(row)
    return rows, None


def _is_row(value: Any) -> bool:
    """Numbers by name, a whole number of steps among them."""
    return (
        isinstance(value, dict)
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value.values())
        and isinstance(value.get("step"), int)
        and value["step"] >= 0
    )


def read_metrics(path: Path) -> list[Row]:
    """The metrics of a run folder, a dict an evaluation; a last line that was cut short is left out.

    Raises:
        GrokinterpError: a line that is no row of metrics.
    """
    rows, problem = readable_rows(path)
    if problem is not None:
        raise GrokinterpError(problem)
    return rows


def first_step_of(config: RunConfig) -> int:
    """The step that a run begins at: 0, or where a fork leaves its parent."""
    return 0 if config.parent is None else config.parent.step


def evaluated_steps(config: RunConfig) -> Iterator[int]:
    """The steps at which a run writes a row of metrics, ascending, unless it ends before."""
    first = first_step_of(config)
    yield first
    yield from range(first - first % config.eval_every + config.eval_every, config.steps, config.eval_every)
    if config.steps > first:
        yield config.steps


def missing_row(config: RunConfig, rows: Sequence[Row], until: int) -> int | None:
    """The first step up to `until` whose row of metrics is not where it belongs; None where all are there."""
    position = 0
    for position, step in enumerate(evaluated_steps(config)):
        if step > until:
            break
        if position >= len(rows) or rows[position]["step"] != step:
            return step
    return None


def unlike_when_kept(rows: Sequence[Row], facts: dict[str, str]) -> bool:
    """Whether rows of metrics are others than those that led up to weights with these facts; older files do not tell."""
    if "rows" not in facts:
        return False
    count = int(facts["rows"])
    return len(rows) < count or RowsSum(rows[:count]).hexdigest != facts["metrics"]


def read_status(path: Path) -> dict[str, Any]:
    """How a run ended: state, reason and step; empty while it has not.

    Raises:
        GrokinterpError: a status.json that no run writes.
    """
    file = path / "status.json"
    if not os.path.lexists(file):
        return {}
    status = read_object(file)
    step = status.get("step")
    if not (isinstance(status.get("state"), str) and isinstance(status.get("reason"), str) and isinstance(step, int) and step >= 0):
        raise GrokinterpError(
            f"{file} does not say how a run ended ({str(status)[:80]}); delete it, and `train` with the same config writes it again"
        )
    return status


def read_provenance(path: Path) -> dict[str, Any]:
    """What computed a run: its parent if it is a fork, and under "computed" versions, device and threads from which step on.

    Raises:
        GrokinterpError: the file is missing, or no run writes such a one.
    """
    values = read_object(path / "provenance.json")
    computed = values.get("computed")
    if not (isinstance(computed, list) and all(isinstance(entry, dict) and isinstance(entry.get("from_step"), int) for entry in computed)):
        raise GrokinterpError(f"{path / 'provenance.json'} does not say what computed the run; restore it, or delete it to go on without")
    return values
