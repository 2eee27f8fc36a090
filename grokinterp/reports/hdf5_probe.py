"""Reads everything in one HDF5 file once, in a process of its own, and prints what is wrong with it as one JSON line.

On damaged bytes the HDF5 library can loop for ever, take all memory or crash; then this process ends and the one that asked goes on. It is run
by its path and imports nothing of the package, so that it starts in a fraction of a second.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from typing import Any

import h5py

FILTERS = {1, 2, 3}  # deflate, shuffle and Fletcher's checksum: HDF5's own, which load no plugin


def fault(path: str, limit: int) -> str | None:
    """What in a file is no plain array of its own, or too large; else None, and everything in it has been read once.

    Args:
        path: of the file.
        limit: bytes that its arrays may take in memory.
    """
    with h5py.File(path, "r") as file:
        places, seen, total = [file], set(), 0
        items: list[Any] = [file]
        while places:
            group = places.pop()
            address = h5py.h5o.get_info(group.id).addr
            if address in seen:
                return f"its group {group.name!r} holds itself"
            seen.add(address)
            for name in group:
                link = group.get(name, getlink=True)
                if not isinstance(link, h5py.HardLink):
                    return f"{name!r} is a link to another place ({type(link).__name__})"
                item = group[name]
                items.append(item)
                places += [item] if isinstance(item, h5py.Group) else []
                if isinstance(item, h5py.Dataset):
                    created = item.id.get_create_plist()
                    if created.get_external_count() or item.is_virtual:
                        return f"the values of {name!r} lie in another file"
                    if not {created.get_filter(i)[0] for i in range(created.get_nfilters())} <= FILTERS:
                        return f"the values of {name!r} are packed in a way that this program does not undo"
        total = sum(_sizes(items))
        if total > limit:
            return f"its arrays take {total:,} bytes, and at most {limit:,} are read; pass limit={total} if you trust the file"
        for item in items:
            dict(item.attrs)
            if isinstance(item, h5py.Dataset):
                [len(dimension) for dimension in item.dims]
                item[()]
    return None


def _sizes(items: list[Any]) -> Iterator[int]:
    """Bytes of each array in memory, attributes too, at least: texts of any length count as one pointer each."""
    for item in items:
        arrays = [item.attrs.get_id(name) for name in item.attrs]
        for array in [*arrays, item] if isinstance(item, h5py.Dataset) else arrays:
            yield math.prod(array.shape or ()) * int(array.dtype.itemsize)


def _bound_memory(n_bytes: int) -> None:
    """Let an allocation beyond n bytes fail, where the system can."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))


if __name__ == "__main__":
    _bound_memory((2 << 30) + 2 * int(sys.argv[2]))
    try:
        answer = {"fault": fault(sys.argv[1], int(sys.argv[2]))}
    except Exception as error:  # whatever the bytes of a damaged or foreign file make the library trip over
        answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    print(json.dumps(answer))
