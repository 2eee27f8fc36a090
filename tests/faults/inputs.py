"""Damaged and hostile input through every door by which a file comes in: a result inside its documented range, or one sentence.

`DOORS` names each door with a file that it accepts and the function that opens it. `attacked` changes the file in ways that a seed decides, bytes
and, where the file is JSON, values, and opens it again. Anything but a result or a GrokinterpError is a finding, and so is a call of over 20 s.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from gpt2_folders import random_gpt2

from grokinterp import GrokinterpError, Report, Run, RunConfig, ace, analyze, presets, train
from grokinterp.files import read_json
from grokinterp.language.grammar import NOUNS, vocabulary
from grokinterp.language.prompt_files import read_prompts
from grokinterp.language.tiny import WordTokenizer
from grokinterp.models import ModelConfig, load_model
from grokinterp.training.config import CheckpointSchedule

SECONDS = 20
VALUES: list[Any] = [None, True, -1, 0, 10**9, 10**30, 1e308, float("nan"), float("inf"), "", "x", "1", [], {}, [None], {"a": 1}, "\u2028", -0.5]


@dataclass(frozen=True)
class Door:
    """One way in.

    Attributes:
        file: what is damaged, an accepted one.
        opened: opens it and uses what comes out, as a user would.
        accepts: whether the file as it is comes in; one of another layout is refused before and after.
    """

    file: Path
    opened: Callable[[], Any]
    accepts: bool = True


def tiny_run(folder: Path) -> Run:
    """A finished run of a moment, in the folder's ``run``."""
    config = presets.nanda2023(p=5, train_fraction=0.6, steps=4).with_(
        model=ModelConfig(d_model=4, n_heads=1, d_mlp=4), eval_every=2, checkpoints=CheckpointSchedule(every=2)
    )
    return train(config, folder / "run", progress_bar=False)


def doors(folder: Path) -> dict[str, Door]:
    """Every door with a small accepted file of its kind."""
    run = tiny_run(folder)
    config = run.config
    read = lambda: analyze(Run(run.path), ["progress"], progress_bar=False).headline()  # noqa: E731
    found = {f"run: {name}": Door(run.path / name, read) for name in ("config.json", "status.json", "metrics.jsonl", "provenance.json")}
    found["run: checkpoint"] = Door(run.path / "checkpoints" / "step_00000004.safetensors", read)
    found["config file"] = _config_door(folder, config)
    found["saved report"] = _report_door(folder, run)
    found["core"] = _core_door(folder, run)
    found["published .pth"] = _published_door(folder, run)
    found |= {f"prompts {suffix}": _prompts_door(folder, suffix, text) for suffix, text in PROMPTS.items()}
    found |= _language_model_doors(folder)
    return found


_HEADS = {noun: number for pair in NOUNS[:3] for noun, number in zip(pair, ("singular", "plural"), strict=True)}
PROMPTS = {
    ".csv": "prompt,number\n" + "".join(f"The {noun},{number}\n" for noun, number in _HEADS.items()),
    ".jsonl": "".join(json.dumps({"prompt": f"The {noun}", "number": number}) + "\n" for noun, number in _HEADS.items()),
}


def _config_door(folder: Path, config: RunConfig) -> Door:
    file = folder / "alone.json"
    file.write_text(json.dumps(config.to_dict()))
    return Door(file, lambda: RunConfig.from_dict(read_json(file)).digest)


def _report_door(folder: Path, run: Run) -> Door:
    file = analyze(run, ["progress"], progress_bar=False).save(folder / "report.nc")
    return Door(file, lambda: Report.load(file).headline())


def _core_door(folder: Path, run: Run) -> Door:
    file = folder / "core.safetensors"
    ace.extract(run.model(), run.task, "blocks.0.hook_resid_post", rank=2).save(file)
    return Door(file, lambda: ace.Core.load(file).remove())


def _published_door(folder: Path, run: Run) -> Door:
    file = folder / "published.pth"
    torch.save({"model": run.weights(4), "epoch": 4}, file)
    return Door(file, lambda: analyze(file, ["progress"]).headline(), accepts=False)


def _prompts_door(folder: Path, suffix: str, text: str) -> Door:
    file = folder / f"prompts{suffix}"
    file.write_text(text)
    tokenizer = WordTokenizer(vocabulary(NOUNS[:20]))
    return Door(file, lambda: read_prompts(file, tokenizer))


def _language_model_doors(folder: Path) -> dict[str, Door]:
    where = folder / "gpt2"
    random_gpt2(where, vocab_size=31, n_positions=8, n_embd=8, n_layer=1, n_head=1)
    return {
        f"language model: {name}": Door(where / name, lambda: load_model(where, tokenizer=False)) for name in ("config.json", "model.safetensors")
    }


def damaged(content: bytes, chance: random.Random) -> bytes:
    """A changed copy of a file's content."""
    if chance.random() < 0.5 and (changed := _json_damaged(content, chance)) is not None:
        return changed
    at, n = chance.randrange(len(content) + 1), len(content)
    return chance.choice(
        [
            lambda: content[:at],
            lambda: content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :],
            lambda: content[:at] + chance.randbytes(chance.randrange(1, 64)) + content[at:],
            lambda: content[:at] + content[min(n, at + chance.randrange(1, 64)) :],
            lambda: chance.randbytes(chance.randrange(0, 2 * n + 1)),
            lambda: content * chance.randrange(2, 4),
            lambda: content.replace(b"0", b"9" * chance.choice((1, 9, 5_000)), 1),
        ]
    )()


def _json_damaged(content: bytes, chance: random.Random) -> bytes | None:
    """One value of a JSON file, or of the first line of several, replaced, removed or given a strange neighbour; None if it is no JSON."""
    lines = content.split(b"\n")
    try:
        whole = json.loads(content)
        tail: list[bytes] = []
    except ValueError:
        try:
            whole, tail = json.loads(lines[0]), lines[1:]
        except ValueError:
            return None
    places = list(_places(whole))
    if not places:
        return json.dumps(chance.choice(VALUES)).encode()
    parent, key = chance.choice(places)
    action = chance.randrange(3)
    if action == 0:
        parent[key] = chance.choice(VALUES)
    elif action == 1:
        del parent[key]
    elif isinstance(parent, dict):
        parent[chance.choice(["", "steps", "x" * 300, "parent"])] = chance.choice(VALUES)
    return b"\n".join([json.dumps(whole).encode(), *tail])


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    for key, inner in list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []:
        yield value, key
        yield from _places(inner)


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attacked(door: Door, seed: int) -> str:
    """What came of one damaged file: "refused", "accepted", or the traceback of anything else. The file is whole again afterwards."""
    kept = door.file.read_bytes()
    whole = door.file.with_name(door.file.name + ".whole")
    shutil.copy2(door.file, whole)
    try:
        door.file.write_bytes(damaged(kept, random.Random(seed)))
        with _no_longer_than(SECONDS):
            door.opened()
    except GrokinterpError:
        return "refused"
    except BaseException:
        return traceback.format_exc()
    finally:
        whole.replace(door.file)
    return "accepted"


def campaign(folder: Path, inputs: int, first_seed: int = 0) -> list[dict[str, object]]:
    """So many damaged files shared out over all doors; one row a door, with the last traceback where there was one."""
    every = doors(folder)
    for door in every.values():
        if door.accepts:
            door.opened()
    rows: list[dict[str, object]] = []
    for name, door in every.items():
        outcomes = [attacked(door, first_seed + seed) for seed in range(-(-inputs // len(every)))]
        found = [outcome for outcome in outcomes if outcome not in ("refused", "accepted")]
        counts = {what: outcomes.count(what) for what in ("refused", "accepted")}
        rows.append({"door": name, "inputs": len(outcomes), **counts, "tracebacks": len(found), "example": found[-1] if found else ""})
        print({key: value for key, value in rows[-1].items() if key != "example"}, flush=True)
    return rows
