"""A run on the Hugging Face hub: pushed with a model card, pulled into a folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import grokinterp
from grokinterp.errors import GrokinterpError, os_errors_explained
from grokinterp.files import whole_folder
from grokinterp.models.hub import check_answers, first_line, is_repository
from grokinterp.training.folder import file_of
from grokinterp.training.runs import Run

CONFIG, CARD = "config.json", "README.md"
RECORDS = (CONFIG, "provenance.json", "metrics.jsonl", "status.json")
PATTERNS = (*RECORDS, CARD, "checkpoints/step_*.safetensors", "moments/step_*.safetensors")
"""What is pulled; anything else in a repository stays there."""


@os_errors_explained()
def push(run: Run | str | Path, repository: str, *, private: bool = True, moments: bool = False) -> str:
    """Upload a run's configuration, metrics, provenance and weights with a model card, as one commit.

    Args:
        run: a run with a checkpoint, or its folder.
        repository: owner/name on the hub, made if it is not there; what it holds under other names stays.
        private: whether a repository that is made here can be seen by its owner alone.
        moments: upload the optimizer's state too, from which a run is forked or gone on with.

    Returns:
        the address.

    Raises:
        GrokinterpError: a name that is not owner/name, a run without checkpoints, or a hub that refuses it: not logged in, no network.
    """
    run = run if isinstance(run, Run) else Run(run)
    _check_name(repository)
    if not run.steps:
        raise GrokinterpError(f"{run.path} has no checkpoint yet, so there is nothing to push; train it first")
    files = [run.path / name for name in RECORDS if (run.path / name).exists()]
    files += [file_of(run.path, "checkpoints", step) for step in run.steps]
    files += [file_of(run.path, "moments", step) for step in run.steps_with_moments] if moments else []
    text = card(run, repository).encode()
    from huggingface_hub import CommitOperationAdd, HfApi

    contents = [CommitOperationAdd(file.relative_to(run.path).as_posix(), str(file)) for file in files] + [CommitOperationAdd(CARD, text)]
    try:
        api = HfApi()
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        api.create_commit(repository, contents, commit_message=f"{run.config.task.name}, {run.steps[-1]:,} steps")
    except Exception as error:  # the hub's client raises its own classes, its HTTP library's and OSError, by version
        raise GrokinterpError(f"{repository} could not be pushed ({first_line(error)}); log in with `hf auth login`, and push again") from error
    return address


@os_errors_explained()
def pull(repository: str, folder: str | Path, *, revision: str | None = None) -> Run:
    """Download a run that was pushed; the same bits, whose checksums are checked when they are read.

    Args:
        repository: owner/name on the hub.
        folder: where the run will be; it must not exist yet, or be empty.
        revision: branch, tag or commit; None for the main branch.

    Raises:
        GrokinterpError: a name that is not owner/name, a folder in use, no network, a repository that holds no run of this package.
    """
    _check_name(repository)
    with whole_folder(Path(folder)) as unfinished:
        _download(repository, revision, unfinished)
        shutil.rmtree(unfinished / ".cache", ignore_errors=True)  # the hub client's notes
        Run(unfinished).weights()
    return Run(folder)


def card(run: Run, repository: str) -> str:
    """A model card: what was trained, how it ended, and how to open it.

    Args:
        run: with at least one checkpoint.
        repository: owner/name.
    """
    config, last = run.config, (run.rows or [{}])[-1]
    task = ", ".join([config.task.name, *(f"{name} = {value}" for name, value in config.task.args.items())])
    facts = {
        "task": f"{task}; {config.task.train_fraction:g} of its examples trained on, split seed {config.task.split_seed}",
        "model": _in_cell(config.model),
        "optimizer": _in_cell(config.optimizer),
        "state": run.status.get("reason", "unfinished"),
        "checkpoints": f"{len(run.steps)}, the last at step {run.steps[-1]:,}",
        **{name.replace("_", " "): f"{value:.4g}" for name, value in last.items() if name != "step"},
        "digest of the config": config.digest,
    }
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return f"""---
library_name: grokinterp
tags: [mechanistic-interpretability, grokking, transformer_lens]
---

# {repository.partition("/")[2]}

A training of grokinterp {grokinterp.__version__}, with the weights of every step that was kept.

| | |
|---|---|
{rows}

```python
import grokinterp as gi

run = gi.interop.pull("{repository}", "{repository.partition("/")[2]}")
report = gi.analyze(run, ["progress"])
model = run.model()
```

Weights are safetensors under HookedTransformer's names; nothing here can run code.
"""


def _in_cell(settings: Any) -> str:
    return str(settings).replace("|", "\\|")


def _check_name(repository: str) -> None:
    if not is_repository(repository):
        raise GrokinterpError(f"a repository of the hub is named owner/name; got {repository!r}")


def _download(repository: str, revision: str | None, folder: Path) -> None:
    from huggingface_hub import snapshot_download

    try:
        check_answers(repository, CONFIG, revision)
        snapshot_download(repository, revision=revision, local_dir=folder, allow_patterns=list(PATTERNS))
    except Exception as error:  # as in `push`
        which = repository if revision is None else f"{repository} at revision {revision!r}"
        raise GrokinterpError(f"{which} could not be pulled ({first_line(error)}); check the name and the network, and pull again") from error
