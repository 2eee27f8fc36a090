"""The layout of Nanda et al. 2023 and of "The Clock and the Pizza": HookedTransformer's names with outputs first, and no layer norm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grokinterp.checkpoints.assembly import assemble
from grokinterp.checkpoints.reader import Facts, Reader, State, n_blocks
from grokinterp.errors import GrokinterpError
from grokinterp.interventions.attention import AttentionRate
from grokinterp.models.baseline_configs import Inputs, MLPConfig
from grokinterp.models.intervention import InForce
from grokinterp.models.published import OPERATIONS, inputs_first
from grokinterp.models.transformers import build_model, load_weights
from grokinterp.tasks import TASKS, Task, TaskConfig, modular_addition

_N_HEADS = "blocks.0.attn.W_K"
_KINDS: Mapping[str, tuple[str, int, Inputs]] = {"A": ("α", 1, "sum"), "B": ("β", 2, "sum"), "D": ("δ", 1, "concatenated")}


class Nanda2023(Reader):
    """arXiv 2301.05217: ``W_K [head, d_head, d_model]``, ``W_O [d_model, head · d_head]``, ``W_E [d_model, vocab]``; three positions, causal."""

    layout = "nanda2023"

    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """See `Reader.recognises`."""
        return is_transposed(state) and "attn_coeff" not in config and (len(state["pos_embed.W_pos"]) > 2 or "fn_name" in config)

    def task(self, state: State, facts: Facts) -> Task | None:
        """The table of the configuration with the published split: Python's shuffle of all pairs in row order.

        Raises:
            GrokinterpError: a configuration with an unknown operation.
        """
        config = facts.config
        if not {"p", "fn_name", "frac_train", "seed"} <= config.keys():
            return None
        if config["fn_name"] not in OPERATIONS:
            raise GrokinterpError(f"the checkpoint's fn_name is {config['fn_name']!r}, and known are {', '.join(OPERATIONS)}; pass task=…")
        return TaskConfig(OPERATIONS[config["fn_name"]], {"p": int(config["p"])}, config["frac_train"], config["seed"], "python").build()

    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """See `Reader.read`. The published configuration states neither activation nor direction; the paper does."""
        if "fn_name" in facts.config:
            act_fn, causal = facts.get("act_fn"), facts.get("causal")
            return read_transposed(state, task, "relu" if act_fn is None else act_fn, causal is None or causal)
        act_fn, causal = facts.need("act_fn", "causal")
        return read_transposed(state, task, act_fn, causal)


class Pizza2023(Reader):
    """arXiv 2306.17844: the same names, two positions, no mask whatever the file says, attention rate α, W_O [d_model, head · ⌊d_model/4⌋]."""

    layout = "pizza2023"

    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """See `Reader.recognises`."""
        return is_transposed(state) and ("attn_coeff" in config or ("fn_name" not in config and len(state["pos_embed.W_pos"]) == 2))

    def task(self, state: State, facts: Facts) -> Task | None:
        """a + b mod C without a split, which the authors drew without a seed."""
        p = facts.config.get("C")
        return None if p is None else _pizza_task(p, len(state["pos_embed.W_pos"]) == 3, bool(facts.config.get("diff_vocab")), facts)

    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """See `Reader.read`."""
        rate, act_fn = facts.need("attention_rate", "act_fn")
        return read_transposed(state, task, act_fn, False, [AttentionRate(rate)])


class PizzaLinear2023(Reader):
    """arXiv 2306.17844's linear models: β, L3 relu(L2 relu(L1(x_a + x_b))); δ, L2 relu(L1 [x_a; x_b]); α, L2 relu(L1(x_a + x_b))."""

    layout = "pizza2023's linear models"

    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """See `Reader.recognises`."""
        return {"embed.weight", "unembed.weight", "l1.weight", "l1.bias"} <= state.keys() <= _LINEAR_NAMES

    def task(self, state: State, facts: Facts) -> Task | None:
        """a + b mod C without a split, see `Pizza2023`."""
        p = facts.config.get("C")
        return None if p is None else _pizza_task(p, False, False, facts)

    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """See `Reader.read`.

        Raises:
            GrokinterpError: a kind that is not read: γ, whose layers act on each operand alone, and α′, which has two embeddings.
        """
        (kind,) = facts.need("model_type")
        if kind not in _KINDS:
            raise GrokinterpError(
                f"{self.layout} with model_type {kind!r} are not read, only {_listed(_KINDS)}; build yours with hook points and pass the model"
            )
        _, n_layers, inputs = _KINDS[kind]
        d_hidden, d_model = len(state["l1.weight"]), state["embed.weight"].shape[1]
        config = MLPConfig(n_layers=n_layers, d_model=d_model, d_hidden=d_hidden, inputs=inputs)
        weights = {"embed.W_E": state["embed.weight"], "unembed.W_U": state["unembed.weight"].T}
        for i in range(n_layers):
            if f"l{i + 1}.weight" not in state:
                raise GrokinterpError(f"a linear model with model_type {kind!r} needs l{i + 1}.weight, which these weights lack")
            weights |= {f"blocks.{i}.W_in": state[f"l{i + 1}.weight"].T, f"blocks.{i}.b_in": state[f"l{i + 1}.bias"]}
        model = build_model(config, task, seed=0, dtype=state["embed.weight"].dtype)
        load_weights(model, weights)
        return model


_LINEAR_NAMES = {f"{part}.weight" for part in ("embed", "unembed")} | {f"l{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")}


def _listed(kinds: Mapping[str, tuple[str, int, Inputs]]) -> str:
    return ", ".join(f"{name!r} ({symbol})" for name, (symbol, *_) in kinds.items())


def _pizza_task(p: Any, equals: bool, separate: bool, facts: Facts) -> Task:
    said = facts.config.get("funcs")
    if said is not None and "".join(str(said).split()) != f"lambdax:(x[0]+x[1])%{p}":
        raise GrokinterpError(f"the checkpoint's task is {said!r}, source that is not run; pass task=…, one of {', '.join(TASKS)} or your own")
    return modular_addition(int(p), equals, separate)


def is_transposed(state: State) -> bool:
    """Whether a state dict has HookedTransformer's names with outputs first."""
    return all(name in state and state[name].ndim == ndim for name, ndim in (("embed.W_E", 2), ("pos_embed.W_pos", 2), (_N_HEADS, 3))) and (
        state.get("blocks.0.attn.W_O", state["embed.W_E"][None]).ndim == 2
    )


def read_transposed(state: State, task: Task, act_fn: str, causal: bool, interventions: list[InForce] | None = None) -> Any:
    """A transformer from weights with outputs first.

    Args:
        state: the weights.
        task: what it is read on.
        act_fn: of the MLPs.
        causal: whether positions see earlier ones alone.
        interventions: in force from now on.
    """
    n_heads, d_head, _ = state[_N_HEADS].shape
    attn_only = "blocks.0.mlp.W_in" not in state
    return assemble(
        inputs_first(state),
        task,
        interventions or [],
        n_layers=n_blocks(state, "blocks."),
        n_heads=n_heads,
        d_head=d_head,
        d_mlp=None if attn_only else len(state["blocks.0.mlp.W_in"]),
        attn_only=attn_only,
        act_fn=act_fn,
        normalization_type=None,
        attention_dir="causal" if causal else "bidirectional",
    )
