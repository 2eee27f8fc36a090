"""Every file of a run × every damage: what training goes on to, or the one sentence that refuses it; and no file of the user's is changed.

`check` carries one case out in a copy of a run. What it promises: training ends with the same bits as the run that nobody touched, or raises
one sentence and leaves the folder as it is; whatever is read afterwards is what it was, or one sentence; nothing else is ever raised.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from grokinterp import GrokinterpError, ModelConfig, Run, RunConfig, presets, train
from grokinterp.seal import facts_of
from grokinterp.training.config import CheckpointSchedule
from grokinterp.training.fork import fork

CONFIG = presets.nanda2023(p=5, train_fraction=0.6, steps=12).with_(
    model=ModelConfig(d_model=4, n_heads=1, d_mlp=4), eval_every=2, checkpoints=CheckpointSchedule(every=4)
)
OWN = {"notes.txt": "mine", "checkpoints/step_00000008 (1).safetensors": "a copy", "moments/step_12.safetensors": "mine too", ".hidden": "mine"}
"""Files that a user put into the folder, under names that are nearly the run's."""


def _edit(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda file: file.write_bytes(change(file.read_bytes())) and None


def _flip(share: float) -> Callable[[bytes], bytes]:
    def flipped(content: bytes) -> bytes:
        at = min(int(share * len(content)), len(content) - 1)
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return flipped


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        _gone(file)
        make(file)

    return damage


def _gone(file: Path) -> None:
    shutil.rmtree(file) if file.is_dir() and not file.is_symlink() else file.unlink()


def _folder_with_a_file(file: Path) -> None:
    file.mkdir()
    (file / "precious.txt").write_text("mine")


def _linked(file: Path) -> None:
    """The file itself lies elsewhere, as git-annex and scratch disks have it, and is whole."""
    target = file.with_name(f"real-{file.name}")
    file.rename(target)
    file.symlink_to(target.name)


def _swapped(file: Path) -> None:
    """Another step's file takes its place; the run has such files in one folder only."""
    other = next(path for path in sorted(file.parent.glob("step_????????.safetensors")) if path != file)
    file.write_bytes(other.read_bytes())


def _without_a_line(file: Path) -> None:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3] + lines[4:]))


def _another_number(file: Path) -> None:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3]["test_accuracy"] = 0.125
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _as_an_old_version(file: Path) -> None:
    """The same tensors without any metadata: what versions before checksums wrote."""
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header.pop("__metadata__", None)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


Damage = Callable[[Path], None]
ANY: dict[str, Damage] = {
    "missing": _gone,
    "a dangling link": _replaced(lambda file: file.symlink_to("annex-object-that-is-not-here")),
    "a folder": _replaced(_folder_with_a_file),
    "a pipe": _replaced(os.mkfifo),
    "garbage": _replaced(lambda file: file.write_bytes(bytes(range(256)) * 4)),
    "empty": _replaced(lambda file: file.write_bytes(b"")),
}
FILES: dict[str, Damage] = {
    **ANY,
    "cut in half": _edit(lambda content: content[: len(content) // 2]),
    "without its last byte": _edit(lambda content: content[:-1]),
    **{f"a bit flipped at {share:.0%}": _edit(_flip(share)) for share in (0.0, 0.01, 0.1, 0.3, 0.6, 0.9, 1.0)},
    "null": _replaced(lambda file: file.write_text("null")),
    "a list": _replaced(lambda file: file.write_text("[]")),
    "linked": _linked,
}
STATE: dict[str, Damage] = {**FILES, "swapped with another step": _swapped}
OBJECT: dict[str, Damage] = {
    **FILES,
    "nested too deep": _replaced(lambda file: file.write_text('{"a":' * 50_000 + "1" + "}" * 50_000)),
    "a number of 5,000 digits": _replaced(lambda file: file.write_text('{"step": ' + "9" * 5_000 + "}")),
    "every value null": _edit(lambda content: json.dumps(dict.fromkeys(json.loads(content))).encode()),
    "every value text": _edit(lambda content: json.dumps(dict.fromkeys(json.loads(content), "x")).encode()),
}
UNNOTICED = ("a bit flipped", "swapped", "a number changed")
"""What a file without a checksum cannot tell."""
KINDS: dict[str, dict[str, Damage]] = {
    "config.json": OBJECT,
    "provenance.json": OBJECT,
    "status.json": OBJECT,
    "metrics.jsonl": {**FILES, "a line lost": _without_a_line, "a number changed": _another_number},
    "checkpoints/step_00000012.safetensors": STATE,
    "checkpoints/step_00000008.safetensors": STATE,
    "checkpoints/step_00000000.safetensors": STATE,
    "moments/step_00000012.safetensors": STATE,
    "moments/step_00000008.safetensors": STATE,
    "checkpoints": ANY,
    "moments": ANY,
    ".lock": ANY,
}


@dataclass(frozen=True)
class Original:
    """A run that nobody touched.

    Attributes:
        folder: of the run.
        config: of the run.
        ended: whether it has its status.json; else it is as a kill after the last checkpoint leaves it.
        sealed: whether its files carry checksums; damage that leaves a file of an old version readable is not noticed.
    """

    folder: Path
    config: RunConfig
    ended: bool
    sealed: bool


def originals(folder: Path) -> dict[str, Original]:
    """The runs that are tampered with: as they end and as a kill leaves them; with all optimizer states; of an older version; a fork."""
    plain = train(CONFIG, folder / "plain", progress_bar=False)
    every = train(CONFIG.with_(**{"checkpoints.moments": True}), folder / "every", progress_bar=False)
    old = folder / "old"
    shutil.copytree(plain.path, old)
    for file in old.glob("*/step_*.safetensors"):
        _as_an_old_version(file)
    assert not facts_of(file.read_bytes())
    (child,) = fork(every, 4, folder / "forks", weight_decay=2.0, progress_bar=False)
    runs = {"plain": plain, "every moment": every, "old version": Run(old), "fork": child}
    for run in runs.values():
        for name, text in OWN.items():
            (run.path / name).write_text(text)
    return {
        f"{name}, {'ended' if ended else 'killed'}": Original(run.path, run.config, ended, not run.unsealed)
        for name, run in runs.items()
        for ended in (True, False)
    }


def cases(kind: str, original: Original) -> Iterator[str]:
    """The damages that this file of this run can have."""
    if os.path.lexists(original.folder / kind) and (original.ended or kind != "status.json"):
        yield from (damage for damage in KINDS[kind] if original.sealed or not damage.startswith(UNNOTICED) or kind.endswith(".json"))


def check(original: Original, kind: str, damage: str, folder: Path) -> str:
    """Damage one file in a copy, train, and read all there is.

    Returns:
        "same bits", or the sentence that refused.
    """
    shutil.copytree(original.folder, folder, symlinks=True)
    if not original.ended:
        (folder / "status.json").unlink()
    KINDS[kind][damage](folder / kind)
    before = contents(folder)
    _read(folder, original)
    assert contents(folder) == before, "reading changed something"
    refused = sentence(lambda: train(original.config, folder, progress_bar=False))
    if refused is not None:
        assert contents(folder, but=(".lock",)) == {name: what for name, what in before.items() if name != ".lock"}, f"refused and changed: {refused}"
        assert str(folder) in refused, refused
        return refused.replace(str(folder), "run")
    after, whole = contents(folder), contents(original.folder)
    # Weights and optimizer states that training does not need stay as they were damaged, and reading them says so. A config that was
    # accepted has the same digest, a status the same words; spaces and the parent's place may differ.
    left = {name for name in whole if name.startswith(kind) and "step_" in name and after.get(name) == before.get(name)}
    left |= {kind} if kind in ("checkpoints", "moments") and after.get(kind) == before.get(kind) else set()
    left |= {kind} if kind == "status.json" and Run(folder).status == Run(original.folder).status else set()
    for name, what in whole.items():
        if name not in (".lock", "config.json", "provenance.json", *left):
            assert after.get(name) == what or _same(folder / name, original.folder / name), f"{name} is not what it was"
    assert all(after[name] == before[name] for name in before if name not in whole and ".tmp-" not in name), "a file of the user's changed"
    _read(folder, original)
    return "same bits"


def _same(file: Path, other: Path) -> bool:
    """Whether two files hold the same bytes, a link's target included, or, written by an older and a newer version, the same tensors."""
    from safetensors.torch import load

    if not file.is_file() or file.suffix != ".safetensors" or file.name in map(os.path.basename, OWN):
        return file.is_file() and file.read_bytes() == other.read_bytes()

    found, expected = load(file.read_bytes()), load(other.read_bytes())
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)


def _read(folder: Path, original: Original) -> None:
    """Everything that can be read off a run is what it was, or a sentence."""
    whole = Run(original.folder)

    def same(read: Callable[[Run], object]) -> None:
        try:
            found = read(Run(folder))
        except GrokinterpError:
            return
        expected = read(whole)
        if isinstance(found, dict) and found and all(isinstance(value, torch.Tensor) for value in found.values()):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], expected[name]) for name in found)
        elif isinstance(found, list):
            assert found == expected[: len(found)]
        else:
            assert found == expected, (found, expected)

    same(lambda run: run.config.digest)
    same(lambda run: run.rows)
    for step in whole.steps:
        same(lambda run, step=step: run.weights(step))  # type: ignore[misc]
    for step in whole.steps_with_moments:
        same(lambda run, step=step: run.moments(step))  # type: ignore[misc]
    for read in (repr, Run._repr_html_, lambda run: run.status, lambda run: run.provenance):
        sentence(lambda read=read: read(Run(folder)))  # type: ignore[misc]


def sentence(act: Callable[[], object]) -> str | None:
    """The one line that refuses an act; None where it was done."""
    try:
        act()
    except GrokinterpError as error:
        if "\n" in str(error):
            raise AssertionError(f"more than one line: {error}") from error
        return str(error)
    return None


def contents(folder: Path, but: tuple[str, ...] = ()) -> dict[str, str]:
    """What lies in a folder, by name: a digest of each file, where each link leads, what kind everything else is."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place) / name
            known = str(path.relative_to(folder))
            if known in but:
                continue
            if path.is_symlink():
                found[known] = f"link to {os.readlink(path)}"
            elif path.is_file():
                found[known] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[known] = "folder" if path.is_dir() else "special"
    return found
