"""HookedTransformer's own layout: state dicts of TransformerLens 3, and the dictionaries of its demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grokinterp.checkpoints.assembly import assemble
from grokinterp.checkpoints.reader import Facts, Reader, State, n_blocks
from grokinterp.errors import GrokinterpError
from grokinterp.models.hooked import beyond_plain
from grokinterp.tasks import Task

_BUFFERS = ("attn.mask", "attn.IGNORE")


class Lens(Reader):
    """``W_Q [head, d_model, d_head]``, ``W_O [head, d_head, d_model]``, ``W_E [vocab, d_model]``; inputs first."""

    layout = "HookedTransformer"

    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """See `Reader.recognises`."""
        names = ("embed.W_E", "unembed.W_U", "blocks.0.attn.W_Q", "blocks.0.attn.W_O")
        return all(name in state for name in names) and state["blocks.0.attn.W_Q"].ndim == state["blocks.0.attn.W_O"].ndim == 3

    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """See `Reader.read`.

        Raises:
            GrokinterpError: a configuration that asks for more than a plain transformer.
        """
        if odd := beyond_plain(facts.config):
            name, value, plain = odd
            raise GrokinterpError(f"this {self.layout} has {name}={value!r}, and only {name}={plain!r} is read; pass the model itself with task=…")
        weights = {name: value for name, value in state.items() if not name.endswith(_BUFFERS)}
        n_heads, _, d_head = state["blocks.0.attn.W_Q"].shape
        norm, unknown = _normalization(state, facts), []
        unknown += ["normalization"] if norm is None else []
        direction = facts.config.get("attention_dir") if facts.get("causal") is None else None
        unknown += ["causal"] if direction is None and facts.get("causal") is None else []
        attn_only = "blocks.0.mlp.W_in" not in state
        unknown += [] if attn_only else ["act_fn"]
        facts.need(*unknown)
        return assemble(
            weights,
            task,
            n_layers=n_blocks(state, "blocks."),
            n_heads=n_heads,
            d_head=d_head,
            d_mlp=None if attn_only else state["blocks.0.mlp.W_in"].shape[1],
            attn_only=attn_only,
            act_fn="relu" if attn_only else facts.get("act_fn"),
            normalization_type=None if norm == "none" else norm,
            attention_dir=direction or ("causal" if facts.get("causal") else "bidirectional"),
            **({"eps": facts.config["eps"]} if "eps" in facts.config else {}),
        )


def _normalization(state: State, facts: Facts) -> str | None:
    """What the weights of norms tell, then the configuration, then the user; None where none of them does."""
    if "blocks.0.ln1.w" in state:
        return "LN" if "blocks.0.ln1.b" in state else "RMS"
    given: str | None = facts.get("normalization")
    if given is None and "normalization_type" in facts.config:
        return facts.config["normalization_type"] or "none"
    return given
