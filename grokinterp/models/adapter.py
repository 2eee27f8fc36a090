"""What the rest of the package may ask of a model: names, shapes, weights by role, and what hangs on it, whatever the backend.

Three backends are known: transformer-lens's HookedTransformer, its TransformerBridge around another library's model, and any other module with
hook points, like a `Baseline`. `models/` is the only room that tells them apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float64
from torch import Tensor

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.models.hanging import hanging

_BLOCK = re.compile(r"blocks\.(\d+)\.")
_STREAM = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
_SCORES = ("hook_pattern", "hook_attn_scores")
_PER_HEAD = re.compile(r"blocks\.(\d+)\.attn\.(W_[QKVO]|b_[QKV])")
# Hook points that fire only after a switch of the model, by their last part.
_SWITCHES = {
    "hook_result": "use_attn_result",
    "hook_q_input": "use_split_qkv_input",
    "hook_k_input": "use_split_qkv_input",
    "hook_v_input": "use_split_qkv_input",
    "hook_attn_in": "use_attn_in",
    "hook_mlp_in": "use_hook_mlp_in",
    "hook_tokens": "use_hook_tokens",
}
HEAD = ("ln_final.hook_normalized", "unembed.hook_in")
Backend = Literal["HookedTransformer", "TransformerBridge", "other"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
EMBEDDED = "blocks.0.hook_resid_pre"
"""Where the sum of token and position embeddings is seen."""
TOKENS_EMBEDDED = "hook_embed"
"""Where the token embeddings are seen, before positions are added."""


@dataclass(frozen=True, eq=False)
class Adapter:
    """One model, and what the rest of the package may ask of it; cheap to make, and it caches nothing.

    Attributes:
        model: a HookedTransformer, a TransformerBridge, or another module with hook points.
    """

    model: Any

    # What it is

    @property
    def hooked(self) -> bool:
        """Whether it is a HookedTransformer, or a `ToyTransformer`, which stands for one: the backend that can begin and end at any block."""
        return any(cls.__name__ in ("HookedTransformer", "ToyTransformer") for cls in type(self.model).__mro__)

    @property
    def bridge(self) -> bool:
        """Whether it is a TransformerBridge, which carries some edits out differently."""
        return hasattr(self.model, "original_model")

    @property
    def backend(self) -> Backend:
        """Which of the `BACKENDS` it is."""
        return "HookedTransformer" if self.hooked else "TransformerBridge" if self.bridge else "other"

    @property
    def bare(self) -> bool:
        """Whether nothing hangs on it, so that fast paths are exact; see `hanging`."""
        return not hanging(self.model)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.model.cfg.n_layers)

    @property
    def n_heads(self) -> int:
        """Attention heads of each block, as its patterns have them."""
        return int(self.model.cfg.n_heads)

    @property
    def d_model(self) -> int:
        """Dimensions of the residual stream."""
        return int(self.model.cfg.d_model)

    @property
    def n_tokens(self) -> int:
        """Tokens that it reads."""
        return int(self.model.cfg.d_vocab)

    @property
    def n_outputs(self) -> int:
        """Tokens or classes that it has logits for."""
        return int(self.model.cfg.d_vocab_out)

    @property
    def n_ctx(self) -> int | None:
        """The most positions that it reads at once; None for no limit."""
        limit = getattr(self.model.cfg, "n_ctx", None)
        return None if limit is None else int(limit)

    @property
    def attention_only(self) -> bool:
        """Whether its blocks have no MLP."""
        return bool(self.model.cfg.attn_only)

    @property
    def local_attention(self) -> bool:
        """Whether some queries see near positions alone."""
        return bool(getattr(self.model.cfg, "use_local_attn", False))

    @property
    def causal(self) -> bool:
        """Whether attention sees a position itself and earlier ones alone."""
        return getattr(self.model.cfg, "attention_dir", None) == "causal"

    @property
    def parallel(self) -> bool:
        """Whether attention and MLP of a block read the same residual stream, so that there is none between them."""
        return bool(getattr(self.model.cfg, "parallel_attn_mlp", False))

    @property
    def device(self) -> torch.device:
        """Where tokens have to be."""
        parameter = next(iter(self.model.parameters()), None)
        return torch.device("cpu") if parameter is None else parameter.device

    @property
    def soft_cap(self) -> float:
        """c where logits are capped as c · tanh(logit / c), 0 where they are not."""
        cap = getattr(self.model.cfg, "output_logits_soft_cap", None)
        return float(cap) if cap is not None and cap > 0 else 0.0

    @property
    def pass_options(self) -> dict[str, Any]:
        """What to hand to a pass beside tokens, so that none of them counts as padding.

        A HookedTransformer whose tokenizer pads on the left leaves out every token that it pads with, a BOS that is the same token included.
        """
        original = any(cls.__name__ == "HookedTransformer" for cls in type(self.model).__mro__)
        return {"padding_side": "right"} if original and self.model.tokenizer is not None else {}

    # Its hook points

    def check_hook(self, hook: str) -> None:
        """Raise a GrokinterpError for a hook that the model lacks or whose values it does not compute."""
        if hook not in self.model.hook_dict:
            raise unknown_name("hook", hook, self.model.hook_dict)
        switch = _SWITCHES.get(hook.rpartition(".")[2])
        if switch is not None and not getattr(self.model.cfg, switch, True):
            raise GrokinterpError(f"hook {hook!r} never fires on this model; call model.set_{switch}(True) first")

    def residual_hooks(self) -> list[str]:
        """The residual stream before the first block and after each: n_layers + 1 hooks."""
        return [EMBEDDED, *(f"blocks.{layer}.hook_resid_post" for layer in range(self.n_layers))]

    def additions(self, layer: int) -> list[str]:
        """The residual stream after each addition of a block: attention's and the MLP's, or one where there is nothing between them."""
        after = f"blocks.{layer}.hook_resid_post"
        return [after] if self.attention_only or self.parallel else [f"blocks.{layer}.hook_resid_mid", after]

    def attention_hooks(self, name: str) -> list[str]:
        """One hook of each block's attention: "pattern", "attn_scores", "q" … by HookedTransformer's names, or "out" for what it adds."""
        inner = "hook_attn_out" if name == "out" else f"attn.hook_{name}"
        return [f"blocks.{layer}.{inner}" for layer in range(self.n_layers)]

    def neuron_inputs(self, hook: str) -> str | None:
        """The hook on the inputs of the neurons at a hook; None where they are no one hook's values, as behind a gate."""
        inputs = hook.removesuffix("hook_post") + "hook_pre"
        return None if inputs not in self.model.hook_dict or getattr(self.model.cfg, "gated_mlp", False) else inputs

    def neuron_hooks(self) -> list[str]:
        """Hook name of each layer's neurons: a transformer's MLP activations, after the nonlinearity, as its last map reads them.

        Empty for an attention-only model, and for a mixture of experts on a bridge, whose experts' neurons lie in no hook.
        """
        own: list[str] | None = getattr(self.model, "neuron_hooks", None)
        if own is not None:
            return own
        blocks = [f"blocks.{layer}.mlp" for layer in range(self.n_layers)]
        if self.attention_only or (self.bridge and any(f"{block}.out.hook_in" not in self.model.hook_dict for block in blocks)):
            return []
        return [f"{block}.hook_post" for block in blocks]

    def layer_of(self, hook: str) -> int | None:
        """The number of blocks before a hook on the residual stream before or after a block; None for any other hook."""
        match = _STREAM.fullmatch(hook)
        return None if match is None else int(match[1]) + (match[2] == "post")

    def n_blocks_for(self, *hooks: str) -> int | None:
        """The number of blocks that must run to fill these hooks; None where one of them lies outside the blocks."""
        blocks = [_BLOCK.match(hook) for hook in hooks]
        return None if None in blocks else 1 + max(int(match[1]) for match in blocks if match)

    def at_position(self, hook: str, value: Tensor, position: int, n_positions: int) -> Tensor:
        """Values of a hook at one position of every example, [example, …]; of attention scores and patterns the query's, [example, head, key].

        Args:
            hook: whose values these are.
            value: [example, position, …], or [example, head, query, key]; a single position stands for all.
            position: from the start, or negative from the end.
            n_positions: tokens in one input.

        Raises:
            GrokinterpError: values without a dimension of positions there.
        """
        dim = 2 if hook.endswith(_SCORES) else 1
        if value.ndim <= dim or value.shape[dim] not in (1, n_positions):
            raise GrokinterpError(
                f"the values at {hook} have shape {tuple(value.shape)}, without a dimension of {n_positions} positions at place {dim}"
            )
        return value.select(dim, index_of(position, n_positions) if value.shape[dim] == n_positions else 0)

    # Its weights by role

    def neuron_logit_weights(self) -> Float64[Tensor, "neuron output"]:
        """W_out·W_U: what each neuron of the last layer adds to each logit, a final LayerNorm left aside, [neuron, output].

        Raises:
            GrokinterpError: a model without `neuron_hooks`.
        """
        own: Tensor | None = getattr(self.model, "neuron_logit_weights", None)
        if own is not None:
            return own.detach().double()
        if not self.neuron_hooks():
            raise GrokinterpError(f"the model has no neurons: its {self.n_layers} blocks are attention alone, or mixtures of experts")
        product: Tensor = self.model.blocks[self.n_layers - 1].mlp.W_out.detach().double() @ self.model.W_U.detach().double()
        return product

    @property
    def neurons_add_to_logits(self) -> bool:
        """Whether a change of the last neurons changes the logits by that times `neuron_logit_weights`, as far as that is known: no norm, no cap,
        no edit and no hook lies between."""
        edited = bool(getattr(self.model, "interventions", None)) or self.soft_cap > 0
        return self.bare and not self.bridge and not edited and self.model.cfg.normalization_type is None

    def token_weights(self, position: int) -> Tensor:
        """What each token at a position adds to the first neurons, where nothing but linear maps lies between, else its embedding, [token, d]."""
        own: Tensor | None = getattr(self.model, "side_weights", None)
        weights: Tensor = self.model.W_E if own is None else own[position]
        return weights.detach().cpu().double()

    def linear_readers(self, hook: str) -> Float64[Tensor, "d_model output"] | None:
        """The matrix from a hook's values to the logits where nothing else lies between; None where the rest is not known to be linear.

        Linear are the input of the unembedding, the final norm's ``hook_normalized``, and the final residual stream of a model without
        a final norm, unless a soft cap bends the logits or a hook hangs on the model. A TransformerBridge may do more after the unembedding, scale
        logits for example, and is asked in a pass.
        """
        final = self.residual_hooks()[-1]
        linear = hook in HEAD or (hook == final and self.model.cfg.normalization_type is None)
        if not linear or self.soft_cap or not self.bare:
            return None
        readers: Tensor = self.model.W_U.detach().double()
        if hook == HEAD[0] and (gain := getattr(self.model.ln_final, "w", None)) is not None:
            offset = 1.0 if getattr(self.model.cfg, "rmsnorm_uses_offset", False) else 0.0  # Gemma's norms multiply by 1 + w
            readers = (offset + gain.detach().double())[:, None] * readers
        return readers if not self.bridge or self._reads(hook, readers) else None

    def _reads(self, hook: str, readers: Tensor) -> bool:
        """Whether the logits of a few tokens are these readings of a hook's values, but for a constant."""
        kept: list[Tensor] = []
        tokens = torch.arange(min(4, int(self.model.cfg.n_ctx), int(self.model.cfg.d_vocab)), device=self.device)[None]
        with torch.no_grad(), self.model.hooks(fwd_hooks=[(hook, lambda value, hook: kept.append(value))]):
            logits = self.model(tokens)
        rest = logits.double() - kept[0].double() @ readers
        return float((rest - rest[:, :1]).abs().max()) <= rounding(logits)


def is_model(value: Any) -> bool:
    """Whether something is a model with hook points."""
    return hasattr(value, "cfg") and hasattr(value, "hook_dict")


def layer_of_heads(parameter: str) -> int | None:
    """The layer of an attention parameter whose first dimension is the head, W_Q, W_K, W_V, W_O, b_Q, b_K or b_V; None for any other."""
    match = _PER_HEAD.fullmatch(parameter)
    return int(match[1]) if match else None


def index_of(position: int, n_positions: int) -> int:
    """A position as an index from the start.

    Raises:
        GrokinterpError: the sequence has no such position.
    """
    if not -n_positions <= position < n_positions:
        raise GrokinterpError(f"position {position} is not in a sequence of {n_positions} tokens")
    return position % n_positions


def rounding(values: Tensor) -> float:
    """The largest difference from values that may be rounding: √ε of their precision, times the largest of them (chosen here)."""
    return float(torch.finfo(values.dtype).eps ** 0.5 * float(values.abs().max()))


def placed(value: Tensor, piece: Tensor, at: int) -> Tensor:
    """A copy of values [example, position, …] with one position replaced; differentiable in both."""
    return value.index_copy(1, torch.tensor([at], device=value.device), piece)
