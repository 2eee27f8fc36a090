"""Trackers: where else a run's metrics go while it trains. Its own metrics.jsonl is always written, with a tracker or without.

Any object with the three methods of `Tracker` is one:

    class Printer:
        def start(self, config): print(config["seed"])
        def log(self, step, metrics): print(step, metrics["test_loss"])
        def finish(self, status): print(status["state"])

    train(config, "runs/nanda", tracker=Printer())
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from grokinterp.errors import GrokinterpError
from grokinterp.training.config import RunConfig
from grokinterp.training.folder import read_metrics
from grokinterp.training.runs import Run

__all__ = ["Tracker", "Wandb", "following"]


@runtime_checkable
class Tracker(Protocol):
    """What `train` tells while it trains: that it starts, each row of metrics, and how it ended.

    A run that was interrupted and goes on starts again, and logs again what it had logged after the checkpoint that it goes on from. An
    exception of a tracker ends the training; the run can be resumed.
    """

    def start(self, config: Mapping[str, Any]) -> None:
        """The training begins, or goes on.

        Args:
            config: the run's configuration as plain JSON values, with its ``digest`` as one more.
        """

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """A row of metrics was written.

        Args:
            step: updates so far.
            metrics: losses in nats, accuracies, the weight norm, by the names that ``run.metrics`` has.
        """

    def finish(self, status: Mapping[str, Any]) -> None:
        """The training is over, or was interrupted.

        Args:
            status: ``state`` ("finished" or "interrupted"), ``reason`` and ``step``.
        """


class Wandb:
    """Metrics go to Weights & Biases as well, under a run whose id is the config's digest, so that a resumed run goes on there too.

    Needs ``pip install 'grokinterp[wandb]'``. Nothing is sent without one of these; ``mode="offline"`` writes to disk alone.

    Args:
        project: the project's name there.
        **settings: handed to ``wandb.init`` as they are, ``entity``, ``name``, ``mode`` or ``dir`` for example.

    Raises:
        GrokinterpError: wandb is not installed.
    """

    def __init__(self, project: str, **settings: Any) -> None:
        try:
            import wandb
        except ImportError:
            raise GrokinterpError(f"logging to the wandb project {project!r} needs `pip install 'grokinterp[wandb]'`") from None
        self._init: Any = wandb.init
        self._settings = {"project": project, "resume": "allow", **settings}
        self._run: Any = None

    def start(self, config: Mapping[str, Any]) -> None:
        """See `Tracker.start`."""
        self._run = self._init(**{"id": config["digest"], "config": dict(config), **self._settings})
        # Its own counter only goes up and would drop what a resumed run logs again.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """See `Tracker.log`."""
        self._run.log({**metrics, "step": step})

    def finish(self, status: Mapping[str, Any]) -> None:
        """See `Tracker.finish`."""
        self._run.summary.update(dict(status))
        self._run.finish(exit_code=0 if status["state"] == "finished" else 1)


@contextlib.contextmanager
def following(tracker: Tracker | None, config: RunConfig, path: Path) -> Iterator[None]:
    """Tell a tracker that a training starts and how it ended, also when it was interrupted.

    Args:
        tracker: None for none.
        config: of the run.
        path: the run's folder.
    """
    if tracker is None:
        yield
        return
    tracker.start({**config.to_dict(), "digest": config.digest})
    try:
        yield
    except BaseException as error:
        rows = read_metrics(path)
        tracker.finish({"state": "interrupted", "reason": f"{type(error).__name__} {error}".strip(), "step": rows[-1]["step"] if rows else 0})
        raise
    tracker.finish(Run(path).status)
