"""Toy transformers as data, built as TransformerLens's HookedTransformer with an initialisation of our own.

Every call of TransformerLens's constructors sits in this folder. The initialisation is explicit and tested because a
library's default has changed under grokking results before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from grokinterp.checks import check_fields
from grokinterp.errors import GrokinterpError
from grokinterp.models.baseline_configs import BaselineConfig, Baselines, TwoSidedMLPConfig
from grokinterp.models.intervention import InForce, in_order
from grokinterp.models.layouts import check_numbers, listed, misfit, named_tensors
from grokinterp.tasks import Task

Activation = Literal["relu", "gelu"]
Normalization = Literal["none", "pre"]
Initialisation = Literal["nanda2023", "pizza2023", "pytorch"]
BiasSite = Literal["attn", "mlp", "unembed"]
_Kind = TypeVar("_Kind", bound=InForce)

LARGEST_MODEL = 2**31  # weights in the blocks; chosen here, so that a damaged config is refused before anything is allocated


@dataclass(frozen=True)
class ModelConfig:
    """A toy transformer with learned positions, as data.

    Attributes:
        n_layers: number of blocks.
        d_model: width of the residual stream.
        n_heads: attention heads in each block.
        d_head: width of a head; None for d_model / n_heads.
        d_mlp: hidden units of each MLP; 0 for an attention-only model.
        act_fn: "relu", or "gelu" in its exact form with the error function.
        normalization: "none", or "pre" for LayerNorm before attention, before the MLP and before the unembedding.
        causal: whether a position attends only to itself and earlier ones.
        biases: the sites that have trained biases, of "attn", "mlp", "unembed"; the others are frozen at 0.
            LayerNorm always has its bias.
        outputs: "vocab" for one logit a token (Nanda's 114 at p = 113), "classes" for one logit an answer.
        init: "nanda2023", "pizza2023" or "pytorch", see `initialise`.
        interventions: what is in force whenever the model is built, `PostNorm` or `Sphere` for example; see
            `grokinterp.interventions.architecture`. They are kept in one order, whatever the order given.
    """

    n_layers: int = 1
    d_model: int = 128
    n_heads: int = 4
    d_head: int | None = None
    d_mlp: int = 512
    act_fn: Activation = "relu"
    normalization: Normalization = "none"
    causal: bool = True
    biases: tuple[BiasSite, ...] = ("mlp",)
    outputs: Literal["vocab", "classes"] = "vocab"
    init: Initialisation = "nanda2023"
    interventions: tuple[InForce, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("n_layers", "d_model", "n_heads", "d_head"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise GrokinterpError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.d_mlp < 0:
            raise GrokinterpError(f"d_mlp must be 0 (attention only) or positive; got {self.d_mlp}")
        if self.d_head is None and self.d_model % self.n_heads:
            raise GrokinterpError(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}; set d_head as well")
        if (size := self.n_layers * self.d_model * (4 * self.n_heads * self.head_width + 2 * self.d_mlp)) > LARGEST_MODEL:
            raise GrokinterpError(f"a toy transformer here has at most {LARGEST_MODEL:,} weights in its blocks; this one would have {size:,}")
        object.__setattr__(self, "interventions", in_order(self.interventions))
        for intervention in self.interventions:
            intervention.check(self)

    def intervention(self, kind: type[_Kind]) -> _Kind | None:
        """The intervention of a class, or None."""
        return next((intervention for intervention in self.interventions if isinstance(intervention, kind)), None)

    @property
    def head_width(self) -> int:
        """d_head, or d_model / n_heads where it is not given."""
        return self.d_head or self.d_model // self.n_heads

    def n_outputs(self, task: Task) -> int:
        """Number of logits on a task."""
        return task.n_vocab if self.outputs == "vocab" else task.n_classes


def build_model(config: ModelConfig | Baselines, task: Task, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """A freshly initialised transformer for a task, or a `Baseline` where the config is that of another architecture.

    The transformer is a HookedTransformer under TransformerLens 3 and a `ToyTransformer` with the same names and meanings under 4.

    Args:
        config: the architecture.
        task: gives vocabulary, context length and outputs.
        seed: of the CPU generator that draws every weight, so that the bits do not depend on the device.
        device: where the model ends up.
        dtype: what the float32 draws are turned into.
    """
    if isinstance(config, TwoSidedMLPConfig):
        from grokinterp.models.two_sided import TwoSidedMLP

        return TwoSidedMLP(config, task, torch.Generator().manual_seed(seed)).to(dtype).to(device)
    if isinstance(config, BaselineConfig):
        from grokinterp.models.baselines import Baseline

        return Baseline(config, task, torch.Generator().manual_seed(seed)).to(dtype).to(device)
    from grokinterp.models.hooked import new_transformer

    model = new_transformer(
        n_layers=config.n_layers,
        d_model=config.d_model,
        n_heads=config.n_heads,
        d_head=config.head_width,
        d_mlp=config.d_mlp or None,
        attn_only=config.d_mlp == 0,
        n_ctx=task.n_positions,
        d_vocab=task.n_vocab,
        d_vocab_out=config.n_outputs(task),
        act_fn=config.act_fn,
        normalization_type="LN" if config.normalization == "pre" else None,
        attention_dir="causal" if config.causal else "bidirectional",
        device="cpu",
    )
    for part in config.interventions:
        part.build(model)
    initialise(model, config.init, torch.Generator().manual_seed(seed))
    for part in config.interventions:
        part.initialise(model, task)
    freeze_absent(model, [name for name, _ in model.named_parameters() if is_absent(name, config)])
    for part in config.interventions:
        part.install(model, task)
    if config.interventions:
        model.interventions = config.interventions
    # print_details: transformer-lens would announce both moves on standard output.
    return model.to(dtype, print_details=False).to(device, print_details=False)


def freeze_absent(model: Any, names: Sequence[str]) -> None:
    """Set parameters that a model does not have to 0 and take them out of training; `trained_parameters` leaves them out by these names."""
    for name in names:
        parameter = model.get_parameter(name)
        parameter.requires_grad_(False)
        parameter.data.zero_()
    model.absent_parameters = frozenset(names)


def is_absent(name: str, config: ModelConfig) -> bool:
    """Whether a parameter, named as in HookedTransformer, is one that the configuration does not have: a bias, or a part of attention."""
    if any(part.removes(name) for part in config.interventions):
        return True
    site = next((site for site in get_args(BiasSite) if f"{site}.b_" in name), None)
    return site is not None and site not in config.biases


def trained_parameters(model: Any) -> dict[str, Tensor]:
    """The parameters that the model has, by name, in its own order: all but those that its configuration leaves out.

    Whether they require gradients decides nothing: a model may be frozen after training. A module around
    the model, as torch.compile puts one, makes the names longer in front.
    """
    absent = tuple(f".{name}" for name in getattr(model, "absent_parameters", ()))
    return {name: parameter for name, parameter in model.named_parameters() if not f".{name}".endswith(absent)}


def load_weights(model: Any, weights: Mapping[str, Tensor]) -> None:
    """Copy named weights into a model in place; names and shapes must be those of its trained parameters.

    What stands beside them is checked, not ignored: a bias that the model keeps at 0, or a causal mask, must have the model's values. The
    prefixes of torch.compile and DataParallel are taken off. An activation function leaves no trace in weights: the model's ``act_fn`` has to
    be the one that they were trained with.

    Args:
        model: built with the configuration of the weights.
        weights: a state dict, see `layouts.named_tensors`. All parameters are asked for where none is trained, as in a frozen model.

    Raises:
        GrokinterpError: weights that do not fit; all names are in one message, and the model is as it was.
    """
    found = named_tensors(weights)
    own = trained_parameters(model) or dict(model.named_parameters())
    fixed = {name: value for name, value in (*model.named_parameters(), *model.named_buffers()) if name not in own and name in found}
    changed = [name for name, value in fixed.items() if found[name].shape != value.shape or not bool((found[name].to(value) == value).all())]
    if changed:
        raise GrokinterpError(
            f"these weights do not fit the model: it keeps {listed(changed)} fixed at other values; build it with their biases and mask"
        )
    found = {name: value for name, value in found.items() if name not in fixed}
    problem = misfit({name: tuple(value.shape) for name, value in own.items()}, {name: tuple(value.shape) for name, value in found.items()})
    if problem is not None:
        raise GrokinterpError(f"these weights do not fit the model: {problem}")
    check_numbers(found)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(found[name])


def initialise(model: Any, rule: Initialisation, generator: torch.Generator) -> None:
    """Draw every weight of a HookedTransformer in place.

    "nanda2023" (Nanda et al. 2023, published code): normal, W_U with variance 1 / vocabulary, all other weights with
    variance 1 / d_model, biases 0, drawn in the published constructors' order and layout, so that
    a published seed gives the published weights.

    "pizza2023" (arXiv 2306.17844, published code, whose seeds are not known): the same, but W_in with variance 1 / (4 d_model).

    "pytorch" (chosen here, the initialisation that reproduces the norms reported by arXiv 2606.12966): embeddings and
    positions N(0, 1), every linear map and its bias uniform on ±1/√fan_in.

    LayerNorm starts at weight 1 and bias 0 under both.
    """
    draw: Callable[..., None] = {"nanda2023": _draw_nanda2023, "pizza2023": _draw_pizza2023, "pytorch": _draw_pytorch}[rule]
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if name.endswith(".w") else 0.0)
        draw(model, generator)


def _draw_nanda2023(model: Any, generator: torch.Generator) -> None:
    def normal(*shape: int, variance: float) -> Tensor:
        return torch.randn(*shape, generator=generator) / math.sqrt(1 / variance)

    cfg = model.cfg
    d, h, e = cfg.d_model, cfg.n_heads, cfg.d_head
    model.embed.W_E.copy_(normal(d, cfg.d_vocab, variance=1 / d).T)
    model.pos_embed.W_pos.copy_(normal(cfg.n_ctx, d, variance=1 / d))
    for block in model.blocks:
        for weight in (block.attn.W_K, block.attn.W_Q, block.attn.W_V):
            weight.copy_(normal(h, e, d, variance=1 / d).transpose(1, 2))
        block.attn.W_O.copy_(normal(d, h * e, variance=1 / d).T.reshape(h, e, d))
        if not cfg.attn_only:
            block.mlp.W_in.copy_(normal(cfg.d_mlp, d, variance=1 / d).T)
            block.mlp.W_out.copy_(normal(d, cfg.d_mlp, variance=1 / d).T)
    model.unembed.W_U.copy_(normal(d, cfg.d_vocab_out, variance=1 / cfg.d_vocab_out))


def _draw_pizza2023(model: Any, generator: torch.Generator) -> None:
    _draw_nanda2023(model, generator)
    for block in model.blocks:
        if not model.cfg.attn_only:
            block.mlp.W_in.div_(2)


def _draw_pytorch(model: Any, generator: torch.Generator) -> None:
    def uniform(fan_in: int, *parameters: Tensor) -> None:
        for parameter in parameters:
            parameter.uniform_(-1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in), generator=generator)

    cfg = model.cfg
    model.embed.W_E.normal_(generator=generator)
    model.pos_embed.W_pos.normal_(generator=generator)
    for block in model.blocks:
        attn = block.attn
        uniform(cfg.d_model, attn.W_Q, attn.W_K, attn.W_V, attn.b_Q, attn.b_K, attn.b_V)
        uniform(cfg.n_heads * cfg.d_head, attn.W_O, attn.b_O)
        if not cfg.attn_only:
            uniform(cfg.d_model, block.mlp.W_in, block.mlp.b_in)
            uniform(cfg.d_mlp, block.mlp.W_out, block.mlp.b_out)
    uniform(cfg.d_model, model.unembed.W_U, model.unembed.b_U)
