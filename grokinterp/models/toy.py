"""A small transformer on TransformerLens's HookedRootModule, with HookedTransformer's parameters, hook points and meanings.

TransformerLens 3 has HookedTransformer, TransformerLens 4 has none, and both have HookedRootModule and HookPoint. Under 4 the presets
build this module. Equal weights give equal values, gradients and hooks: a change at ``hook_resid_mid`` reaches the MLP and the skip
connection, ``hook_attn_scores`` holds scores before the softmax with −inf where the mask is, and a pass may start and stop at a layer.
Hook points that HookedTransformer fires only behind a flag (``hook_result``, ``hook_q_input`` …) do not exist here, so that a hook on one
is an error and not silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.shapes import Tokens

# HookedTransformer's short names for weights: one of a module's, or one of each block's stacked over layers.
_OWNERS = {"W_E": "embed", "W_pos": "pos_embed", "W_U": "unembed", "b_U": "unembed"}
_STACKED = dict.fromkeys(("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O"), "attn") | dict.fromkeys(("W_in", "b_in", "W_out", "b_out"), "mlp")

Residual = Float[Tensor, "example position d_model"]
Norm = Literal["LN", "RMS"]

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
}


@dataclass
class ToyConfig:
    """What HookedTransformer keeps as ``cfg``, under its names, as far as this module has it.

    Attributes:
        n_layers: number of blocks.
        d_model: width of the residual stream.
        n_heads: heads in each block.
        d_head: width of a head.
        d_mlp: hidden units; None where attn_only.
        n_ctx: positions.
        d_vocab: input tokens.
        d_vocab_out: logits.
        act_fn: "relu", "gelu" (exact) or "gelu_new" (GPT-2's tanh form).
        attn_only: whether blocks have no MLP.
        normalization_type: "LN", or None.
        attention_dir: "causal" or "bidirectional".
        eps: added to the variance under a norm.
        device: where the weights lie.
        dtype: of the weights.
    """

    n_layers: int
    d_model: int
    n_heads: int
    d_head: int
    d_mlp: int | None
    n_ctx: int
    d_vocab: int
    d_vocab_out: int
    act_fn: str
    attn_only: bool = False
    normalization_type: Literal["LN"] | None = None
    attention_dir: Literal["causal", "bidirectional"] = "causal"
    eps: float = 1e-5
    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    # What HookedTransformer could be and this module is not; measures ask for it.
    parallel_attn_mlp: bool = False
    positional_embedding_type: str = "standard"
    use_local_attn: bool = False
    use_logn_attn: bool = False
    ungroup_grouped_query_attention: bool = False
    n_key_value_heads: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it, by name."""
        return asdict(self)


def hook_point() -> Callable[[Tensor], Tensor]:
    """A place at which hooks may see and change what flows through."""
    point: Callable[[Tensor], Tensor] = HookPoint()  # type: ignore[no-untyped-call]
    return point


class NormLayer(nn.Module):
    """LayerNorm or RMSNorm with its scale and its result as hook points.

    Args:
        cfg: gives width and eps.
        kind: "LN" removes the mean, "RMS" does not and has no bias.
    """

    def __init__(self, cfg: Any, kind: Norm) -> None:
        super().__init__()
        self.kind, self.eps = kind, cfg.eps
        self.w = nn.Parameter(torch.ones(cfg.d_model))
        if kind == "LN":
            self.b = nn.Parameter(torch.zeros(cfg.d_model))
        self.hook_scale, self.hook_normalized = hook_point(), hook_point()

    def forward(self, x: Residual) -> Residual:
        """The input normalised at every position, [example, position, d_model]."""
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        if self.kind == "LN":
            wide = wide - wide.mean(-1, keepdim=True)
        scale = self.hook_scale((wide.pow(2).mean(-1, keepdim=True) + self.eps).sqrt())
        normalised: Tensor = self.hook_normalized(wide / scale).to(x.dtype) * self.w
        return normalised + self.b if self.kind == "LN" else normalised


@dataclass
class KeyValues:
    """One block's keys and values of earlier positions, [example, position, head, d_head]; `append` makes them those of later ones too."""

    past_keys: Tensor = field(repr=False)
    past_values: Tensor = field(repr=False)

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """All of them, in order."""
        self.past_keys = torch.cat([self.past_keys, keys], dim=1)
        self.past_values = torch.cat([self.past_values, values], dim=1)
        return self.past_keys, self.past_values


class _Embed(nn.Module):
    def __init__(self, cfg: ToyConfig) -> None:
        super().__init__()
        self.W_E = nn.Parameter(torch.empty(cfg.d_vocab, cfg.d_model))

    def forward(self, tokens: Tokens) -> Residual:
        return self.W_E[tokens]


class _PosEmbed(nn.Module):
    def __init__(self, cfg: ToyConfig) -> None:
        super().__init__()
        self.W_pos = nn.Parameter(torch.empty(cfg.n_ctx, cfg.d_model))

    def forward(self, tokens: Tokens) -> Residual:
        n_examples, n_positions = tokens.shape
        return self.W_pos[:n_positions].expand(n_examples, -1, -1)


class _Attention(nn.Module):
    def __init__(self, cfg: ToyConfig) -> None:
        super().__init__()
        self.cfg = cfg
        h, d, e = cfg.n_heads, cfg.d_model, cfg.d_head
        # In HookedTransformer's order, which files and optimizers follow.
        self.W_Q = nn.Parameter(torch.empty(h, d, e))
        self.W_O = nn.Parameter(torch.empty(h, e, d))
        self.b_Q = nn.Parameter(torch.zeros(h, e))
        self.b_O = nn.Parameter(torch.zeros(d))
        self.W_K = nn.Parameter(torch.empty(h, d, e))
        self.W_V = nn.Parameter(torch.empty(h, d, e))
        self.b_K = nn.Parameter(torch.zeros(h, e))
        self.b_V = nn.Parameter(torch.zeros(h, e))
        self.hook_k, self.hook_q, self.hook_v, self.hook_z = hook_point(), hook_point(), hook_point(), hook_point()
        self.hook_attn_scores, self.hook_pattern = hook_point(), hook_point()

    def forward(self, x: Residual, past: KeyValues | None = None) -> Tensor:  # a hook may leave fewer positions
        q, k, v = (
            hook(functional.linear(x, weight.transpose(1, 2).flatten(0, 1), bias.flatten()).view(*x.shape[:-1], *bias.shape))
            for hook, weight, bias in ((self.hook_q, self.W_Q, self.b_Q), (self.hook_k, self.W_K, self.b_K), (self.hook_v, self.W_V, self.b_V))
        )
        k, v = (k, v) if past is None else past.append(k, v)
        scores = q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(self.cfg.d_head)
        if self.cfg.attention_dir == "causal":
            future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1 + k.shape[1] - q.shape[1])
            scores = scores.masked_fill(future, -math.inf)
        pattern = functional.softmax(self.hook_attn_scores(scores), dim=-1)
        pattern = self.hook_pattern(torch.where(pattern.isnan(), torch.zeros_like(pattern), pattern)).to(v.dtype)
        z = self.hook_z((pattern @ v.transpose(1, 2)).transpose(1, 2))
        return functional.linear(z.flatten(2), self.W_O.flatten(0, 1).T.contiguous(), self.b_O)


class _MLP(nn.Module):
    def __init__(self, cfg: ToyConfig) -> None:
        super().__init__()
        assert cfg.d_mlp is not None
        self.act_fn = _ACTIVATIONS[cfg.act_fn]
        self.W_in = nn.Parameter(torch.empty(cfg.d_model, cfg.d_mlp))
        self.b_in = nn.Parameter(torch.zeros(cfg.d_mlp))
        self.W_out = nn.Parameter(torch.empty(cfg.d_mlp, cfg.d_model))
        self.b_out = nn.Parameter(torch.zeros(cfg.d_model))
        self.hook_pre, self.hook_post = hook_point(), hook_point()

    def forward(self, x: Residual) -> Residual:
        post: Tensor = self.hook_post(self.act_fn(self.hook_pre(_affine(x, self.W_in, self.b_in))))
        return _affine(post, self.W_out, self.b_out)


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b by one fused operation, in which HookedTransformer rounds too."""
    return torch.addmm(bias, x.reshape(-1, x.shape[-1]), weight).view(*x.shape[:-1], -1)


class _Block(nn.Module):
    def __init__(self, cfg: ToyConfig) -> None:
        super().__init__()
        self.cfg = cfg
        norm = (lambda: NormLayer(cfg, "LN")) if cfg.normalization_type == "LN" else nn.Identity
        self.ln1 = norm()
        if not cfg.attn_only:
            self.ln2 = norm()
        self.attn = _Attention(cfg)
        self.hook_attn_out = hook_point()
        if not cfg.attn_only:
            self.mlp = _MLP(cfg)
            self.hook_mlp_out, self.hook_resid_mid = hook_point(), hook_point()
        self.hook_resid_pre, self.hook_resid_post = hook_point(), hook_point()

    def forward(self, resid: Residual, past: KeyValues | None = None) -> Tensor:
        resid = self.hook_resid_pre(resid)
        resid = resid + self.hook_attn_out(self.attn(self.ln1(resid), past))
        if not self.cfg.attn_only:
            resid = self.hook_resid_mid(resid)
            resid = resid + self.hook_mlp_out(self.mlp(self.ln2(resid)))
        post: Tensor = self.hook_resid_post(resid)
        return post


class _Unembed(nn.Module):
    def __init__(self, cfg: ToyConfig) -> None:
        super().__init__()
        self.W_U = nn.Parameter(torch.empty(cfg.d_model, cfg.d_vocab_out))
        self.b_U = nn.Parameter(torch.zeros(cfg.d_vocab_out))
        self.hook_in, self.hook_out = hook_point(), hook_point()

    def forward(self, resid: Residual) -> Tensor:
        logits: Tensor = self.hook_out(functional.linear(self.hook_in(resid), self.W_U.T.contiguous(), self.b_U))
        return logits


class ToyTransformer(HookedRootModule):  # type: ignore[misc, no-any-unimported, unused-ignore]
    """Tokens [example, position] to logits [example, position, output]; weights are undefined until something is written to them.

    Attributes:
        cfg: sizes and kinds, as in HookedTransformer.
        embedding_edits: applied to the sum of the embeddings where it is made, in order; see `models.edited`.
        interventions: what is in force for good.
    """

    embedding_edits: Sequence[Callable[[Tensor], Tensor]] = ()
    interventions: Sequence[Any] = ()
    tokenizer: Any = None

    def __init__(self, cfg: ToyConfig) -> None:
        super().__init__()
        if cfg.act_fn not in _ACTIVATIONS:
            raise unknown_name("activation", cfg.act_fn, _ACTIVATIONS)
        self.cfg = cfg
        self.embed, self.hook_embed = _Embed(cfg), hook_point()
        self.pos_embed, self.hook_pos_embed = _PosEmbed(cfg), hook_point()
        self.blocks = nn.ModuleList(_Block(cfg) for _ in range(cfg.n_layers))
        self.ln_final = NormLayer(cfg, "LN") if cfg.normalization_type == "LN" else nn.Identity()
        self.unembed = _Unembed(cfg)
        self.setup()  # type: ignore[no-untyped-call]  # gives the hook points their names

    def forward(
        self,
        tokens: Tensor,
        return_type: Literal["logits"] | None = "logits",
        *,
        start_at_layer: int | None = None,
        stop_at_layer: int | None = None,
        past_kv_cache: Mapping[int, KeyValues] | None = None,
    ) -> Tensor | None:
        """Logits, or the residual stream before a layer.

        Args:
            tokens: [example, position]; with `start_at_layer`, the residual stream [example, position, d_model] instead.
            return_type: "logits"; None runs the pass for its hooks alone.
            start_at_layer: the first block that runs; None for the embedding and all blocks. Negative counts from the end.
            stop_at_layer: the block before which the pass ends, and whose input it returns; None for all of it.
            past_kv_cache: keys and values of earlier positions by block, for a pass that starts at a layer; they grow.
        """
        blocks = range(self.cfg.n_layers)
        resid = tokens if start_at_layer is not None else self._embedded(tokens)
        for i in blocks[slice(start_at_layer, stop_at_layer)]:
            resid = self.blocks[i](resid, None if past_kv_cache is None else past_kv_cache[i])
        if stop_at_layer is not None:
            return resid
        logits: Tensor = self.unembed(self.ln_final(resid))
        return logits if return_type == "logits" else None

    def _embedded(self, tokens: Tokens) -> Residual:
        if tokens.shape[1] > self.cfg.n_ctx:
            raise GrokinterpError(f"inputs of {tokens.shape[1]} tokens do not fit into the context of {self.cfg.n_ctx} positions")
        resid: Tensor = self.hook_embed(self.embed(tokens)) + self.hook_pos_embed(self.pos_embed(tokens))
        for edit in self.embedding_edits:
            resid = edit(resid)
        return resid

    def to(self, *args: Any, **kwargs: Any) -> ToyTransformer:
        """As `torch.nn.Module.to`; ``cfg.device`` and ``cfg.dtype`` follow. ``print_details`` is taken for HookedTransformer's sake."""
        kwargs.pop("print_details", None)
        super().to(*args, **kwargs)
        weight = self.embed.W_E
        self.cfg.device, self.cfg.dtype = str(weight.device), weight.dtype
        return self

    def __getattr__(self, name: str) -> Any:
        if name in _OWNERS:
            return getattr(getattr(self, _OWNERS[name]), name)
        if name in _STACKED:
            return torch.stack([getattr(getattr(block, _STACKED[name]), name) for block in self.blocks])
        return super().__getattr__(name)
