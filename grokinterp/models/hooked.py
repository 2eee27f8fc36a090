"""The one place where a HookedTransformer is made."""

from __future__ import annotations

import warnings
from typing import Any

from transformer_lens import HookedTransformer, HookedTransformerConfig


def hooked_transformer(kind: type[HookedTransformer] = HookedTransformer, **settings: Any) -> Any:
    """A HookedTransformer that nothing has been written to yet.

    Args:
        kind: the class, that of an edited one for example.
        settings: of TransformerLens's HookedTransformerConfig.
    """
    with warnings.catch_warnings():
        # transformer-lens 3.9 announces that 4.0 removes HookedTransformer; pyproject.toml pins it below 4.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*HookedTransformer is deprecated.*")
        return kind(HookedTransformerConfig(init_weights=False, **settings))
