"""The one exception that bad input and the operating system raise, and the sentences that go with it."""

from __future__ import annotations

import contextlib
import difflib
import errno
import os
from collections.abc import Iterable, Iterator


class GrokinterpError(ValueError):
    """Bad input, an unreadable file, a folder in use or a refusal of the operating system; the message names the value and the remedy.

    Where the operating system refused, its own error is the ``__cause__``. The command line prints one line and exits with status 2.
    """


def unknown_name(kind: str, name: object, known: Iterable[str]) -> GrokinterpError:
    """The error for a name that is not in a table, with the nearest names that are.

    Args:
        kind: what was looked up, as in "measure" or "preset".
        name: what the caller asked for.
        known: every accepted name.
    """
    options = sorted(known)
    near = difflib.get_close_matches(str(name), options, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(options)}"
    return GrokinterpError(f"unknown {kind} {name!r}; {hint}")


_FULL = "no room left to write {path}; free some space and give the same command again"
_FORBIDDEN = "no permission for {path}; change its permissions or choose another place"
_SENTENCES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "{path} would be larger than this system allows; choose another place, or raise the limit (`ulimit -f`)",
    errno.EROFS: "{path} lies on a file system that is read-only; choose another place",
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.ENOTDIR: "{path} leads through something that is not a folder; choose another place",
    errno.EISDIR: "{path} is a folder; name a file in it",
    errno.EEXIST: "{path} exists and is not a folder; choose another place",
    errno.ENOENT: "{path} does not exist",
    errno.ENAMETOOLONG: "the name {path} is too long for its file system; shorten it",
    errno.ELOOP: "{path} is a link that leads back to itself; remove it or choose another place",
    errno.ENXIO: "nobody reads the pipe {path}; start the reader first",
    errno.EPIPE: "whoever read {path} went away before the end",
    errno.EMFILE: "too many files are open to open {path}; close some, or raise the limit (`ulimit -n`)",
    errno.ENFILE: "too many files are open on this machine to open {path}; close some",
    errno.EIO: "the disk fails on {path}; check it, and try again elsewhere",
    errno.ESTALE: "the file system with {path} went away; mount it again",
}
_LONGEST = 120  # characters of a path in a sentence


def explained(error: OSError, path: object = None) -> GrokinterpError:
    """The sentence for an error of the operating system.

    Args:
        error: what it raised.
        path: what the user knows the file as; as the error names it unless given.
    """
    place = error.filename if path is None else path
    name = "a file" if place is None else os.fspath(place) if isinstance(place, str | os.PathLike) else str(place)
    name = str(name) if len(str(name)) <= _LONGEST else f"{str(name)[: _LONGEST // 2]}…{str(name)[-_LONGEST // 2 :]}"
    sentence = _SENTENCES.get(error.errno or 0)
    if sentence is not None:
        return GrokinterpError(sentence.format(path=name))
    said = " ".join((error.strerror or str(error) or type(error).__name__).split())
    return GrokinterpError(said if place is None else f"{name}: {said}")


@contextlib.contextmanager
def os_errors_explained(path: object = None) -> Iterator[None]:
    """Have an error of the operating system raised as a GrokinterpError that keeps it as its cause; also a decorator.

    Args:
        path: as in `explained`.
    """
    try:
        yield
    except OSError as error:
        raise explained(error, path) from error
