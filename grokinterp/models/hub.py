"""Where the files of a published GPT-2 are: in the Hugging Face cache, asked first and without a network, or on the hub."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from pathlib import Path

from grokinterp.errors import GrokinterpError

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
VOCABULARY, MERGES = "vocab.json", "merges.txt"
FILES = f"{CONFIG}, {WEIGHTS} and {TOKENIZER} (or {VOCABULARY} with {MERGES})"

PATIENCE = 8.0  # seconds that the hub has to answer (chosen here)


def cached_or_downloaded(name: str) -> Path:
    """The folder of the local cache that holds a published model, downloaded into it where it is not there yet.

    Args:
        name: one of `REPOSITORIES`.

    Raises:
        GrokinterpError: not in the cache, and the hub does not answer within `PATIENCE` seconds or the download fails.
    """
    folder = cached(name)
    if folder is not None:
        return folder
    repository = REPOSITORIES[name]
    try:
        _ask(repository)
        return _download(repository)
    except Exception as error:  # the hub's client raises its own classes, its HTTP library's and OSError, by version
        raise GrokinterpError(
            f"{name} is not in the local Hugging Face cache and could not be downloaded ({_first_line(error)}); put {FILES} "
            f"of https://huggingface.co/{repository} into a folder and pass that folder instead of {name!r}"
        ) from error


def cached(name: str) -> Path | None:
    """The folder of the local cache with everything that `name` needs, or None. Never touches the network."""
    from huggingface_hub import try_to_load_from_cache

    for repository in (REPOSITORIES[name], name):
        weights = try_to_load_from_cache(repository, WEIGHTS)
        if isinstance(weights, str) and (Path(weights).parent / CONFIG).is_file() and has_tokenizer(Path(weights).parent):
            return Path(weights).parent
    return None


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer in one of its two forms."""
    return (folder / TOKENIZER).is_file() or ((folder / VOCABULARY).is_file() and (folder / MERGES).is_file())


def _ask(repository: str) -> None:
    """Raise unless the hub answers within `PATIENCE` seconds.

    In a thread that is left behind, because a name server that does not answer ignores every timeout. Without this question a download
    retries for minutes on a closed network.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    answers: queue.Queue[Exception | None] = queue.Queue()

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(repository, CONFIG), timeout=PATIENCE)
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


def _download(repository: str) -> Path:
    """Fetch what is missing, with the hub client's progress bars; the cache's folder."""
    from huggingface_hub import hf_hub_download

    return [Path(hf_hub_download(repository, file)) for file in (CONFIG, TOKENIZER, WEIGHTS)][-1].parent


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
