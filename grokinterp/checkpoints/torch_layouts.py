"""Layouts of plain PyTorch: nanoGPT and minGPT, and modules around ``nn.TransformerEncoder``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from grokinterp.checkpoints.assembly import assemble
from grokinterp.checkpoints.reader import Facts, Reader, State, n_blocks
from grokinterp.errors import GrokinterpError
from grokinterp.interventions.architecture import PostNorm
from grokinterp.tasks import Task

_ENDS = r"\.(weight|bias)"
_GPT = re.compile(rf"(wte|wpe|lm_head|ln_f){_ENDS}|h\.\d+\.(ln_1|ln_2|attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj){_ENDS}")
_LAYERS = re.compile(rf"layers\.\d+\.(self_attn\.in_proj_(weight|bias)|(self_attn\.out_proj|linear1|linear2|norm1|norm2){_ENDS})|norm{_ENDS}")


def _check_known(state: State, names: re.Pattern[str], layout: str) -> None:
    """Raise unless every tensor is part of the layout: a tensor left out would make another model."""
    if unknown := sorted(name for name in state if not names.fullmatch(name)):
        raise GrokinterpError(f"{unknown[0]} is no part of a {layout}; a reader of your own can say what it does (subclass Reader)")


class NanoGPT(Reader):
    """``transformer.h.0.attn.c_attn.weight [3 · d_model, d_model]``: causal, LayerNorm before each part, learned positions."""

    layout = "nanoGPT"

    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """See `Reader.recognises`; the layout of Hugging Face's GPT-2 has the same names with inputs first."""
        joined = _plain(state).get("h.0.attn.c_attn.weight")
        return joined is not None and "wpe.weight" in _plain(state)

    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """See `Reader.read`.

        Raises:
            GrokinterpError: Hugging Face's GPT-2, or no unembedding.
        """
        own = _plain(state)
        d_model = own["wte.weight"].shape[1]
        if own["h.0.attn.c_attn.weight"].shape[0] != 3 * d_model:
            raise GrokinterpError(
                f"h.0.attn.c_attn.weight has shape {tuple(own['h.0.attn.c_attn.weight'].shape)}, inputs first as in Hugging Face's GPT-2, "
                "not in nanoGPT; gi.load_model(folder) reads that"
            )
        if "lm_head.weight" not in own:
            raise GrokinterpError(
                f"a {self.layout} state dict has lm_head.weight; got {', '.join(list(own)[:3])} …; where it is tied, add the embedding"
            )
        _check_known(own, _GPT, self.layout)
        n_heads, act_fn = facts.need("n_heads", "act_fn")
        weights = {"embed.W_E": own["wte.weight"], "pos_embed.W_pos": own["wpe.weight"], "unembed.W_U": own["lm_head.weight"].T}
        weights |= _norm("ln_final", own, "ln_f") | _renamed(own, {"lm_head.bias": "unembed.b_U"})
        n_layers = n_blocks(own, "h.")
        for i in range(n_layers):
            theirs, ours = f"h.{i}.", f"blocks.{i}."
            weights |= _norm(f"{ours}ln1", own, f"{theirs}ln_1") | _norm(f"{ours}ln2", own, f"{theirs}ln_2")
            weights |= attention(own, f"{ours}attn.", f"{theirs}attn.c_attn.weight", f"{theirs}attn.c_attn.bias", f"{theirs}attn.c_proj", n_heads)
            weights |= _mlp(own, f"{ours}mlp.", f"{theirs}mlp.c_fc", f"{theirs}mlp.c_proj")
        settings = {"n_layers": n_layers, "n_heads": n_heads, "d_head": d_model // n_heads, "d_mlp": len(own["h.0.mlp.c_fc.weight"])}
        return assemble(weights, task, **settings, act_fn=act_fn, normalization_type="LN", attention_dir="causal")


class MinGPT(Reader):
    """``blocks.0.attn.query.weight [d_model, d_model]`` and ``tok_emb.weight``: minGPT of 2020, as Othello-GPT has it; see `NanoGPT`.

    minGPT of 2022 has nanoGPT's names, and GPT-2's GELU in its tanh form.
    """

    layout = "minGPT"
    _OUTER: Mapping[str, str] = {"tok_emb.": "wte.", "head.": "lm_head.", "ln_f.": "ln_f."}
    _BLOCK: Mapping[str, str] = {"ln1.": "ln_1.", "ln2.": "ln_2.", "attn.proj.": "attn.c_proj.", "mlp.0.": "mlp.c_fc.", "mlp.2.": "mlp.c_proj."}

    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """See `Reader.recognises`."""
        return "tok_emb.weight" in state and "blocks.0.attn.query.weight" in state

    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """See `Reader.read`.

        Raises:
            GrokinterpError: no positions.
        """
        if "pos_emb" not in state:
            raise GrokinterpError(f"a {self.layout} state dict has pos_emb; got {', '.join(list(state)[:3])} …")
        plain: dict[str, Tensor] = {"wpe.weight": state["pos_emb"].flatten(0, -2)}
        for name, value in state.items():
            block, inner = (found[1], found[2]) if (found := re.fullmatch(r"blocks\.(\d+)\.(.*)", name)) else (None, name)
            names = self._OUTER if block is None else self._BLOCK
            ours = next((new + inner.removeprefix(old) for old, new in names.items() if inner.startswith(old)), None)
            if ours is not None:
                plain[ours if block is None else f"h.{block}.{ours}"] = value
            elif inner.startswith("attn.query."):
                plain[f"h.{block}.attn.c_attn.{inner[11:]}"] = torch.cat(_all_of(state, name, ("query", "key", "value")))
            elif name != "pos_emb" and not inner.startswith(("attn.key.", "attn.value.", "attn.mask")):
                plain[name] = value  # nanoGPT's reader refuses it by this name
        return NanoGPT().read(plain, facts, task)


def _all_of(state: State, name: str, parts: Sequence[str]) -> list[Tensor]:
    """The tensors that are called like the one of the first part."""
    names = [name.replace(f".{parts[0]}.", f".{part}.") for part in parts]
    if missing := [each for each in names if each not in state]:
        raise GrokinterpError(f"these weights have {name} and no {missing[0]}")
    return [state[each] for each in names]


class Encoder(Reader):
    """``layers.0.self_attn.in_proj_weight [3 · d_model, d_model]``: blocks of ``nn.TransformerEncoder`` with an embedding and an output of your own.

    Token embedding, position embedding and output are found by their usual names, or named in ``embed=``, ``pos_embed=`` and ``unembed=``.
    """

    layout = "nn.TransformerEncoder"
    _BLOCK = re.compile(r"(.*\b)?layers\.0\.self_attn\.in_proj_weight")

    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """See `Reader.recognises`."""
        return any(self._BLOCK.fullmatch(name) for name in state)

    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """See `Reader.read`.

        Raises:
            GrokinterpError: tensors that nothing is known about; norms that a transformer here cannot have.
        """
        prefix = next(found[1] or "" for name in state if (found := self._BLOCK.fullmatch(name)))
        inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith((f"{prefix}layers.", f"{prefix}norm."))}
        _check_known(inner, _LAYERS, self.layout)
        outer = {name: value for name, value in state.items() if not name.startswith((f"{prefix}layers.", f"{prefix}norm."))}
        names = {part: _usual(part, outer, facts) for part in _USUAL}
        unknown = [part for part, name in names.items() if name is None]
        n_heads, act_fn, causal, norm_first, *_ = facts.need("n_heads", "act_fn", "causal", "norm_first", *unknown)
        weights = _outer(outer, {part: str(name) for part, name in names.items()})
        d_model, final = weights["embed.W_E"].shape[1], f"{prefix}norm.weight" in state
        if bool(norm_first) != final:
            raise GrokinterpError(
                f"norm_first={norm_first!r} {'with' if final else 'without'} a final {prefix}norm is not read: a pre-norm transformer has a "
                "final norm here, and a post-norm one has none; build it with hook points and pass the model"
            )
        n_layers = n_blocks(state, f"{prefix}layers.")
        for i in range(n_layers):
            theirs, ours = f"{prefix}layers.{i}.", f"blocks.{i}."
            joined = f"{theirs}self_attn.in_proj_"
            weights |= attention(state, f"{ours}attn.", f"{joined}weight", f"{joined}bias", f"{theirs}self_attn.out_proj", n_heads)
            weights |= _mlp(state, f"{ours}mlp.", f"{theirs}linear1", f"{theirs}linear2")
            for place, norm in zip(("ln1", "ln2") if norm_first else ("post_attn_norm", "post_mlp_norm"), ("norm1", "norm2"), strict=True):
                weights |= _norm(ours + place, state, theirs + norm)
        weights |= _norm("ln_final", state, f"{prefix}norm") if norm_first else {}
        settings = {"n_layers": n_layers, "n_heads": n_heads, "d_head": d_model // n_heads, "d_mlp": len(state[f"{prefix}layers.0.linear1.weight"])}
        return assemble(
            weights,
            task,
            () if norm_first else (PostNorm(),),
            **settings,
            act_fn=act_fn,
            normalization_type="LN" if norm_first else None,
            attention_dir="causal" if causal else "bidirectional",
        )


_USUAL: Mapping[str, tuple[str, ...]] = {
    "embed": ("embed", "embedding", "emb", "token_embedding", "token_embed", "tok_embed", "tok_emb", "wte"),
    "pos_embed": ("pos", "pos_embed", "pos_embedding", "pos_emb", "position_embedding", "positional_embedding", "positions", "wpe"),
    "unembed": ("unembed", "head", "fc", "fc_out", "out", "output", "output_layer", "decoder", "linear", "lm_head", "readout"),
}
"""Names under which people keep the parts around an encoder, with or without ``.weight``."""


def _usual(part: str, outer: State, facts: Facts) -> str | None:
    """The name of a part around the encoder: the user's, or the only usual one."""
    given: str | None = facts.get(part)
    if given is not None:
        if given not in outer and given != "none":
            raise GrokinterpError(f"{part}={given!r} names no tensor; there are {', '.join(outer)}")
        return given
    names = [name for name in outer if name.removesuffix(".weight") in _USUAL[part]]
    return names[0] if len(names) == 1 else None


def _outer(outer: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    """Embeddings and unembedding; every other tensor around the encoder is refused."""
    bias = names["unembed"].removesuffix("weight") + "bias"
    if unknown := sorted(outer.keys() - {*names.values(), bias}):
        raise GrokinterpError(
            f"{unknown[0]} is no part of an encoder, an embedding, positions or an output; a reader of your own can say what it does"
        )
    embedding, position = outer[names["embed"]], outer.get(names["pos_embed"])
    if position is None:  # "none": no positions
        position = embedding.new_zeros(1, embedding.shape[1])
    weights = {"embed.W_E": embedding, "pos_embed.W_pos": position.reshape(-1, embedding.shape[1]), "unembed.W_U": outer[names["unembed"]].T}
    return weights | _renamed(outer, {bias: "unembed.b_U"})


def attention(state: State, ours: str, weight: str, bias: str, out: str, n_heads: int) -> dict[str, Tensor]:
    """Attention's weights by HookedTransformer's names, from queries, keys and values in one matrix with outputs first.

    Args:
        state: the weights.
        ours: what stands before HookedTransformer's names.
        weight: name of the joined matrix [3 · d_model, d_model].
        bias: name of its bias [3 · d_model], which may be absent.
        out: name of the output's Linear.
        n_heads: number of heads, which lie one after the other.

    Raises:
        GrokinterpError: a width that is not a multiple of the heads.
    """
    d_model = state[weight].shape[1]
    if not isinstance(n_heads, int) or n_heads < 1 or d_model % n_heads:
        raise GrokinterpError(f"n_heads divides d_model = {d_model}; got {n_heads!r}")
    found = {}
    for kind, each in zip("QKV", torch.chunk(state[weight], 3), strict=True):
        found[f"{ours}W_{kind}"] = each.T.reshape(d_model, n_heads, -1).transpose(0, 1)
    if bias in state:
        found |= {f"{ours}b_{kind}": each.reshape(n_heads, -1) for kind, each in zip("QKV", torch.chunk(state[bias], 3), strict=True)}
    found[f"{ours}W_O"] = state[f"{out}.weight"].T.reshape(n_heads, -1, d_model)
    return found | _renamed(state, {f"{out}.bias": f"{ours}b_O"})


def _mlp(state: State, ours: str, first: str, second: str) -> dict[str, Tensor]:
    weights = {f"{ours}W_in": state[f"{first}.weight"].T, f"{ours}W_out": state[f"{second}.weight"].T}
    return weights | _renamed(state, {f"{first}.bias": f"{ours}b_in", f"{second}.bias": f"{ours}b_out"})


def _norm(ours: str, state: State, theirs: str) -> dict[str, Tensor]:
    return _renamed(state, {f"{theirs}.weight": f"{ours}.w", f"{theirs}.bias": f"{ours}.b"})


def _renamed(state: State, names: Mapping[str, str]) -> dict[str, Tensor]:
    return {ours: state[theirs] for theirs, ours in names.items() if theirs in state}


def _plain(state: State) -> dict[str, Tensor]:
    """nanoGPT's weights without ``transformer.`` and without masks."""
    return {name.removeprefix("transformer."): value for name, value in state.items() if not name.endswith((".attn.bias", ".attn.masked_bias"))}
