"""The command line: ``grokinterp demo | train | analyze | report | watch | fork | sweep | reproduce | cite | flip | agreement``; a function each.

Torch and the rest of the package are imported inside the commands, so that ``grokinterp --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable

import tyro

from grokinterp.cli.language import agreement, flip
from grokinterp.cli.papers import cite, reproduce
from grokinterp.cli.read import analyze, report, watch
from grokinterp.cli.train import demo, fork, sweep, train
from grokinterp.errors import GrokinterpError, explained

COMMANDS: dict[str, Callable[..., int | None]] = {
    "demo": demo,
    "train": train,
    "analyze": analyze,
    "report": report,
    "watch": watch,
    "fork": fork,
    "sweep": sweep,
    "reproduce": reproduce,
    "cite": cite,
    "flip": flip,
    "agreement": agreement,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit status: 0 when it worked; 1 when it did, but a training diverged or a run of a sweep is not finished; 2 for bad input and for
        what the operating system refuses, said in one line on standard error; 130 after an interrupt; 141 when the reader of the output has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a λ in a terminal that has none, or a path that is no text, is no failure
    try:
        status: int | None = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="grokinterp", description="A laboratory for how transformers come to compute.", args=arguments
        )
        if sys.stdout is not None:
            sys.stdout.flush()
        return status or 0
    except GrokinterpError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:
        return _fail("interrupted; the same command goes on from the last checkpoint", 130)
    except BrokenPipeError:
        return _fail("", 141)  # as the shell counts a program that a pipe's end has ended
    except OSError as error:
        return _fail(str(explained(error, "the output" if error.filename is None and error.errno else None)), 2)


def _fail(sentence: str, status: int) -> int:
    """Say a sentence where it can be said, and give up what could not be printed; the exit status."""
    if sentence:
        with contextlib.suppress(OSError):
            print(f"grokinterp: {sentence}", file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except (OSError, AttributeError):
        with contextlib.suppress(OSError, AttributeError):  # or the interpreter would try again, and fail, when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
