"""Where the files of a published model are: in the Hugging Face cache, asked first and without a network, or on the hub."""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Mapping
from pathlib import Path

from grokinterp.errors import GrokinterpError
from grokinterp.files import read_object

# Short name -> repository on huggingface.co. Older tools cached some of them under the short name.
REPOSITORIES: Mapping[str, str] = {
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "distilgpt2": "distilbert/distilgpt2",
}
ALIASES: Mapping[str, str] = {"gpt2-small": "gpt2", **{repository: name for name, repository in REPOSITORIES.items()}}
CONFIG, WEIGHTS, INDEX, TOKENIZER = "config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json"
VOCABULARY, MERGES, SENTENCEPIECE = "vocab.json", "merges.txt", "tokenizer.model"
TOKENIZER_FILES = (TOKENIZER, VOCABULARY, MERGES, SENTENCEPIECE, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
FILES = f"{CONFIG}, {WEIGHTS} and {TOKENIZER} (or {VOCABULARY} with {MERGES})"

PATIENCE = 8.0  # seconds that the hub has to answer (chosen here)


def is_repository(name: str) -> bool:
    """Whether a name has the form of a repository's, owner/name."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def cached_or_downloaded(name: str, revision: str | None = None) -> Path:
    """The folder of the local cache that holds a published model, downloaded into it where it is not there yet.

    Args:
        name: one of `REPOSITORIES`, or a repository's own name.
        revision: branch, tag or commit; None for the repository's main branch.

    Raises:
        GrokinterpError: not in the cache, and the hub does not answer within `PATIENCE` seconds or the download fails.
    """
    folder = cached(name, revision)
    if folder is not None:
        return folder
    repository = REPOSITORIES.get(name, name)
    try:
        check_answers(repository, CONFIG, revision)
        return _download(repository, revision)
    except Exception as error:  # the hub's client raises its own classes, its HTTP library's and OSError, by version
        which = name if revision is None else f"{name} at revision {revision!r}"
        at = "" if revision is None else f"/tree/{revision}"
        raise GrokinterpError(
            f"{which} is not in the local Hugging Face cache and could not be downloaded ({first_line(error)}); put {FILES} "
            f"of https://huggingface.co/{repository}{at} into a folder and pass that folder instead of {name!r}"
        ) from error


def cached(name: str, revision: str | None = None) -> Path | None:
    """The folder of the local cache with everything that `name` needs, or None. Never touches the network."""
    from huggingface_hub import try_to_load_from_cache

    for repository in dict.fromkeys((REPOSITORIES.get(name, name), name)):
        config = try_to_load_from_cache(repository, CONFIG, revision=revision)
        if isinstance(config, str) and _has_weights(folder := Path(config).parent) and has_tokenizer(folder):
            return folder
    return None


def _has_weights(folder: Path) -> bool:
    """Whether a folder holds all files of the weights."""
    if (folder / WEIGHTS).is_file():
        return True
    return (folder / INDEX).is_file() and all((folder / name).is_file() for name in _shards(folder / INDEX))


def _shards(index: Path) -> list[str]:
    """The files that an index of weights names."""
    names = read_object(index).get("weight_map")
    return sorted({str(name) for name in names.values()}) if isinstance(names, dict) else []


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer in one of its forms."""
    alone = (folder / TOKENIZER).is_file() or (folder / SENTENCEPIECE).is_file()
    return alone or ((folder / VOCABULARY).is_file() and (folder / MERGES).is_file())


def check_answers(repository: str, file: str, revision: str | None = None) -> None:
    """Raise unless the hub answers within `PATIENCE` seconds, and has a file.

    In a thread that is left behind, because a name server that does not answer ignores every timeout. Without this question a download
    retries for minutes on a closed network.

    Args:
        repository: owner/name.
        file: of the repository.
        revision: branch, tag or commit; None for the main branch.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    answers: queue.Queue[Exception | None] = queue.Queue()

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(repository, file, revision=revision), timeout=PATIENCE)
            answers.put(None)
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        error = answers.get(timeout=PATIENCE)
    except queue.Empty:
        raise TimeoutError(f"the hub did not answer within {PATIENCE:g} seconds") from None
    if error is not None:
        raise error


def _download(repository: str, revision: str | None) -> Path:
    """Fetch what is missing, with the hub client's progress bars; the cache's folder."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def fetched(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(repository, name, revision=revision))
        except EntryNotFoundError:
            return None

    folder = Path(hf_hub_download(repository, CONFIG, revision=revision)).parent
    for name in TOKENIZER_FILES:
        if name not in (VOCABULARY, MERGES, SENTENCEPIECE) or not (folder / TOKENIZER).is_file():
            fetched(name)
    if fetched(WEIGHTS) is None and (index := fetched(INDEX)) is not None:
        for name in _shards(index):
            hf_hub_download(repository, name, revision=revision)
    return folder


def first_line(error: Exception) -> str:
    """What an error says first, or its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
