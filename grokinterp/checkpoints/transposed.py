"""The layout of Nanda et al. 2023 and of "The Clock and the Pizza": HookedTransformer's names with outputs first, and no layer norm."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from grokinterp.checkpoints.assembly import assemble
from grokinterp.checkpoints.reader import Facts, Reader, State, n_blocks
from grokinterp.checks import real, shown, whole
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.interventions.attention import AttentionRate
from grokinterp.models.baseline_configs import Inputs, MLPConfig
from grokinterp.models.intervention import InForce
from grokinterp.models.readout import OUTPUT, at_readout
from grokinterp.models.transformers import build_model, load_weights
from grokinterp.tasks import TASKS, Task, TaskConfig, modular_addition

if TYPE_CHECKING:
    from grokinterp.checkpoints.checkpoint import Checkpoint

OPERATIONS: dict[str, str] = {
    "add": "modular_addition",
    "subtract": "modular_subtraction",
    "multiply": "modular_multiplication",
    "x2xyy2": "modular_quadratic",
}
"""What a file's ``fn_name`` may say beside the task's own name, and the task that it is here. All have every pair in row order."""

_SIZED: Mapping[str, int] = {"embed.W_E": 2, "pos_embed.W_pos": 2, "blocks.0.attn.W_K": 3, "blocks.0.attn.W_O": 2}
"""The weights that tell the sizes, by their number of dimensions."""
_LARGEST_P = 1_000  # a table of a million pairs (chosen here)
_LAST = 10  # epochs of the record that say how much the loss moves (chosen here)
_KINDS: Mapping[str, tuple[str, int, Inputs]] = {"A": ("α", 1, "sum"), "B": ("β", 2, "sum"), "D": ("δ", 1, "concatenated")}


class Nanda2023(Reader):
    """arXiv 2301.05217: ``W_K [head, d_head, d_model]``, ``W_O [d_model, head · d_head]``, ``W_E [d_model, vocab]``; three positions, causal."""

    layout = "nanda2023"
    stated = ("p", "fn_name", "frac_train", "seed")
    """What the published configuration says of the task."""

    def recognises(self, state: State, config: Mapping[str, Any]) -> bool:
        """See `Reader.recognises`."""
        return is_transposed(state) and "attn_coeff" not in config and (len(state["pos_embed.W_pos"]) > 2 or "fn_name" in config)

    def task(self, state: State, facts: Facts) -> Task | None:
        """The table of the configuration with the published split: Python's shuffle of all pairs in row order.

        Raises:
            GrokinterpError: a configuration with an unknown operation, or numbers that no such task has.
        """
        config = facts.config
        if not config.keys() >= set(self.stated):
            return None
        name = str(config["fn_name"])[:60]
        short = name.lower().replace("-", "_").removeprefix("modular_").removeprefix("mod_")
        operation = OPERATIONS.get(short, f"modular_{short}")
        if operation not in OPERATIONS.values():
            raise GrokinterpError(f"{unknown_name('fn_name', name, OPERATIONS)}; for another operation, pass task=…")
        p = whole("p in the config", config["p"], 3, _LARGEST_P)
        fraction = real("frac_train in the config", config["frac_train"], 0, 1)
        seed = whole("seed in the config", config["seed"], 0, 2**63 - 1)
        return TaskConfig(operation, {"p": p}, fraction, seed, "python").build()

    def read(self, state: State, facts: Facts, task: Task) -> Any:
        """See `Reader.read`; where the published configuration does not state them, the activation is ReLU, and the masks tell the direction.

        Raises:
            GrokinterpError: a published configuration with other sizes than the weights, masks that are neither causal nor full.
        """
        if "fn_name" not in facts.config:
            return read_transposed(state, task, *facts.need("act_fn", "causal"))
        for name, size in _sizes(state).items():
            for spelling in (name, name.replace("n_", "num_")):
                if size is not None and (said := facts.config.get(spelling, size)) != size:
                    raise GrokinterpError(f"the config says {spelling} {shown(said)}, and the weights {size}; use both of one model")
        causal = facts.get("causal")
        return read_transposed(state, task, facts.get("act_fn") or "relu", _is_causal(state) if causal is None else causal)

    def check_record(self, checkpoint: Checkpoint, model: Any) -> None:
        """See `Reader.check_record`: the training loss has to be the last one recorded, as closely as the record itself stands still.

        The record was taken an update before or after the weights. So the two may differ by three times what the loss last moved between two
        epochs, and a thousandth (chosen here). On the published file ReLU is 0.001 % off and GELU 7 %.
        """
        task, losses = checkpoint.task, checkpoint.recorded.get("train_loss")
        if losses is None or losses.empty or losses.index[-1] != checkpoint.steps[-1] or not isinstance(task, Task) or task.train is None:
            return
        recorded, moved = float(losses.iloc[-1]), float(losses.iloc[-_LAST:].diff().abs().max())
        examples = task.indices("train")
        logits = at_readout(model, task.tokens[examples], task.readout)[OUTPUT]
        loss = float(cross_entropy(logits.double(), task.answers[examples]))
        if not math.isfinite(recorded + moved) or abs(loss - recorded) <= 3 * moved + 1e-3 * recorded:
            return
        activation = str(checkpoint.config.get("act_type", "relu")).lower()
        raise GrokinterpError(
            f"the model has a training loss of {loss:.4g} nats, and {recorded:.4g} was recorded last, so it was trained with another operation, "
            f"split or activation function than its config says ({task.name}, {activation}); published.load(file, check_loss=False) reads it anyway"
        )


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
    return all(name in state and state[name].ndim == ndim for name, ndim in _SIZED.items())


def read_transposed(state: State, task: Task, act_fn: str, causal: bool, interventions: Sequence[InForce] = ()) -> Any:
    """A transformer from weights with outputs first.

    Args:
        state: the weights.
        task: what it is read on.
        act_fn: of the MLPs.
        causal: whether positions see earlier ones alone.
        interventions: in force from now on.

    Raises:
        GrokinterpError: weights that do not tell the model's sizes, or that do not fit together.
    """
    sizes = _sizes(state)
    return assemble(
        _inputs_first(state, sizes["n_heads"]),
        task,
        interventions,
        **{name: size for name, size in sizes.items() if name != "d_model"},
        attn_only=sizes["d_mlp"] is None,
        act_fn=act_fn,
        normalization_type=None,
        attention_dir="causal" if causal else "bidirectional",
    )


def _sizes(state: State) -> dict[str, Any]:
    """The model's sizes, by HookedTransformer's names; d_mlp is None where there is no MLP."""
    n_dimensions = {**_SIZED, **({"blocks.0.mlp.W_in": 2} if "blocks.0.mlp.W_in" in state else {})}
    found = {name: tuple(state[name].shape) if name in state else None for name in n_dimensions}
    if odd := {name: shape for name, shape in found.items() if shape is None or len(shape) != n_dimensions[name]}:
        raise GrokinterpError(
            "embed.W_E [d_model, vocab], pos_embed.W_pos [position, d_model], blocks.0.attn.W_K [head, d_head, d_model], W_O "
            f"[d_model, head · d_head] and mlp.W_in [d_mlp, d_model] say a model's sizes; got {shown(odd)}"
        )
    n_heads, d_head, d_model = state["blocks.0.attn.W_K"].shape
    d_mlp = len(state["blocks.0.mlp.W_in"]) if "blocks.0.mlp.W_in" in state else None
    return {"n_layers": n_blocks(state, "blocks."), "n_heads": n_heads, "d_head": d_head, "d_model": d_model, "d_mlp": d_mlp}


def _is_causal(state: State) -> bool:
    """What the masks beside the weights say; causal where there are none."""
    masks = [value for name, value in state.items() if name.endswith("attn.mask")]
    for said, full in ((True, torch.ones(3, 3).tril()), (False, torch.ones(3, 3))):
        if all(torch.equal(mask.float(), full) for mask in masks):
            return said
    raise GrokinterpError(f"the attention masks are neither causal nor full: {shown(masks[0].tolist())}; pass causal=…")


def _inputs_first(state: State, n_heads: int) -> dict[str, Tensor]:
    """The authors' layout, outputs first, turned into HookedTransformer's, inputs first; masks are left out.

    A tensor that this layout cannot hold stays as it is, for `assemble` to name.
    """
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        match name.rpartition(".")[2], value.ndim:
            case "mask", _:
                continue
            case (("W_K" | "W_Q" | "W_V"), 3):
                weights[name] = value.transpose(1, 2)
            case "W_O", 2 if value.shape[1] % n_heads == 0:
                weights[name] = value.T.reshape(n_heads, -1, len(value))
            case (("W_E" | "W_in" | "W_out"), 2):
                weights[name] = value.T
            case _:
                weights[name] = value
    return weights
