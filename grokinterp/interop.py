"""To other libraries and back, in one line each.

plain = gi.interop.hooked_transformer(run.model())    # TransformerLens 3
bridge = gi.interop.bridge(run.model())               # TransformerLens 3 and 4
gi.interop.hugging_face(model, "folder")              # where Hugging Face has the architecture
gi.interop.push(run, "me/grokked")                    # a run on the hub, with a model card
run = gi.interop.pull("me/grokked", "runs/grokked")
"""

from __future__ import annotations

from grokinterp.models.convert import bridge, hooked_transformer, hugging_face
from grokinterp.training.sharing import pull, push

__all__ = ["bridge", "hooked_transformer", "hugging_face", "pull", "push"]
