"""OTHER PEOPLE'S toy checkpoints: files, folders and state dicts, read by an open set of readers.

    checkpoint = grokinterp.load_checkpoint("model.pt", task=task, act_fn="relu", causal=True)
    grokinterp.analyze(checkpoint, ["progress"])

A layout of your own is a subclass of `Reader` in `READERS`.
"""

from grokinterp.checkpoints.checkpoint import Checkpoint
from grokinterp.checkpoints.loading import READERS, checkpoint_of, load_checkpoint
from grokinterp.checkpoints.published import checkpoint_of_published
from grokinterp.checkpoints.reader import Facts, Reader

__all__ = ["READERS", "Checkpoint", "Facts", "Reader", "checkpoint_of", "checkpoint_of_published", "load_checkpoint"]
