"""The one place where a transformer is made: a HookedTransformer where TransformerLens has that class, else the toy transformer of this package."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from grokinterp.errors import GrokinterpError

BEYOND_PLAIN: Mapping[str, Any] = {
    "positional_embedding_type": "standard",
    "parallel_attn_mlp": False,
    "gated_mlp": False,
    "use_attn_scale": True,
    "use_local_attn": False,
    "scale_attn_by_inverse_layer_idx": False,
    "use_logn_attn": False,
    "use_qk_norm": False,
    "use_normalization_before_and_after": False,
    "output_logits_soft_cap": -1.0,
    "attn_scores_soft_cap": -1.0,
    "num_experts": None,
    "n_key_value_heads": None,
}
"""What a HookedTransformer may do beyond a plain transformer: settings with the value that does not."""


@lru_cache
def has_hooked_transformer() -> bool:
    """Whether the installed TransformerLens has HookedTransformer, as the versions before 4 do."""
    return int(version("transformer-lens").split(".")[0]) < 4


def beyond_plain(settings: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first setting by which a HookedTransformer is more than a plain transformer, its value, and the plain one; None where it is one."""
    values = ((name, settings.get(name), plain) for name, plain in BEYOND_PLAIN.items())
    return next(((name, value, plain) for name, value, plain in values if value not in (plain, None)), None)


def new_transformer(**settings: Any) -> Any:
    """A transformer that nothing has been written to yet and that interventions can become part of.

    Args:
        settings: of TransformerLens's HookedTransformerConfig. Under TransformerLens 4 those that `ToyConfig` has, and names that only label.

    Raises:
        GrokinterpError: under TransformerLens 4, a setting that the toy transformer lacks.
    """
    if has_hooked_transformer():
        from grokinterp.models.edited_hooked import EditedTransformer

        return hooked_transformer(EditedTransformer, **settings)
    from grokinterp.models.toy import ToyConfig, ToyTransformer

    named = {name: value for name, value in settings.items() if name not in ("model_name", "default_prepend_bos")}
    if unknown := named.keys() - {field.name for field in fields(ToyConfig)}:
        raise GrokinterpError(
            f"this needs TransformerLens 3 (pip install 'transformer-lens<4'): the toy transformer has no {', '.join(sorted(unknown))}"
        )
    return ToyTransformer(ToyConfig(**{"d_vocab_out": settings["d_vocab"], **named}))


def hooked_transformer(kind: Any = None, **settings: Any) -> Any:
    """A HookedTransformer that nothing has been written to yet.

    Args:
        kind: the class, that of an edited one for example; None for HookedTransformer itself.
        settings: of TransformerLens's HookedTransformerConfig.

    Raises:
        GrokinterpError: TransformerLens 4, which has no such class.
    """
    if not has_hooked_transformer():
        raise GrokinterpError(
            f"TransformerLens {version('transformer-lens')} has no HookedTransformer; pip install 'transformer-lens<4', or load the model as a bridge"
        )
    from transformer_lens import HookedTransformer, HookedTransformerConfig

    with warnings.catch_warnings():
        # transformer-lens 3.9 announces that 4.0 removes HookedTransformer; there `new_transformer` makes another module.
        warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*HookedTransformer is deprecated.*")
        return (kind or HookedTransformer)(HookedTransformerConfig(init_weights=False, **settings))
