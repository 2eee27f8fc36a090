"""Interventions that are part of a model: in force whenever it is built from its configuration, so while it trains as well.

They are listed in ``ModelConfig.interventions``. Those that act on activations can be put on any model with ``applied``, too; `FourierInit` acts on
initial weights. A class of your own derives from `InForce`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from grokinterp.checks import check_fields
from grokinterp.errors import GrokinterpError
from grokinterp.groups.fourier import check_frequencies
from grokinterp.models.adapter import EMBEDDED, Adapter, layer_of_heads
from grokinterp.models.edits import for_backend, uniform_attention
from grokinterp.models.intervention import Hooks, InForce
from grokinterp.tasks import Task

if TYPE_CHECKING:
    from grokinterp.models.transformers import ModelConfig

NormKind = Literal["layer", "rms"]


@dataclass(frozen=True)
class PostNorm(InForce):
    """Post-norm: the residual stream is normalised after each addition to it, with weights of its own at each place.

    The places are after attention's addition (``blocks.i.post_attn_norm``), after the MLP's (``blocks.i.post_mlp_norm``) and,
    where asked for, after token plus position (``post_embed_norm``); ε is 1e-5. Nothing else is normalised before the
    unembedding, unless ``ModelConfig.normalization`` says so. Only a model that was built with it has the weights.

    Attributes:
        norm: "layer" for LayerNorm with weight and bias, "rms" for RMSNorm with a weight.
        at_embedding: also normalise token plus position.
    """

    norm: NormKind = "layer"
    at_embedding: bool = False
    kind: str = field(default="post_norm", init=False, repr=False)
    order = 40
    contradicts = MappingProxyType({"sphere": "both normalise the residual stream at the same places"})
    backends = ("HookedTransformer",)
    in_engine = True
    position_wise = True

    def __post_init__(self) -> None:
        check_fields(self)

    def sites(self, model: Any) -> dict[str, str]:
        """The module that normalises, by the hook whose value it normalises."""
        adapter, names = Adapter(model), ("post_attn_norm", "post_mlp_norm")
        embedding = {EMBEDDED: "post_embed_norm"} if self.at_embedding else {}
        blocks = range(adapter.n_layers)
        return embedding | {hook: f"blocks.{i}.{name}" for i in blocks for hook, name in zip(adapter.additions(i), names, strict=False)}

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`.

        Raises:
            GrokinterpError: a model that was not built with it, so that it has no norms to apply.
        """
        sites = self.sites(model)
        modules = dict(model.named_modules())
        if missing := [name for name in sites.values() if name not in modules]:
            raise GrokinterpError(f"the model has no {missing[0]}; post-norm has weights, so build it with ModelConfig(interventions=({self},))")
        return [(hook, partial(_through, modules[name])) for hook, name in sites.items()]

    def build(self, model: Any) -> None:
        """See `InForce.build`."""
        from grokinterp.models.edited import add_norm

        for name in self.sites(model).values():
            add_norm(model, name, self.norm)


@dataclass(frozen=True)
class Sphere(InForce):
    """The residual stream lives on the unit sphere: L2 normalisation after token plus position and after each addition.

    h / max(‖h‖, ε), without weights; queries, keys and values are not normalised (arXiv 2603.05228).

    Attributes:
        eps: ε.
    """

    eps: float = 1e-12
    kind: str = field(default="sphere", init=False, repr=False)
    order = 50
    in_engine = True
    position_wise = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "eps", float(self.eps))
        if self.eps <= 0:
            raise GrokinterpError(f"the sphere's eps must be positive; got {self.eps}")

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`."""
        adapter = Adapter(model)
        additions = [hook for layer in range(adapter.n_layers) for hook in adapter.additions(layer)]
        return for_backend(model, [(hook, partial(_on_sphere, self.eps)) for hook in (EMBEDDED, *additions)])


@dataclass(frozen=True)
class CosineUnembed(InForce):
    """Logits are the temperature times h · w/‖w‖, each output's column w of W_U normalised on the fly, without a bias.

    With `Sphere` they are temperature times the cosine (arXiv 2603.05228). h itself is not normalised here. A model that is
    built with it has the scaled, normalised columns as its ``W_U``, so that whatever reads ``model.W_U`` reads what acts; the
    trained parameter ``unembed.W_U`` is free.

    Attributes:
        temperature: of the logits; 10 in the paper.
    """

    temperature: float = 10.0
    kind: str = field(default="cosine_unembed", init=False, repr=False)
    order = 80
    in_engine = True
    position_wise = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "temperature", float(self.temperature))
        if self.temperature <= 0:
            raise GrokinterpError(f"the temperature must be positive; got {self.temperature}")

    def columns(self, weight: Tensor) -> Tensor:
        """W_U as it acts [..., d_model, output], from the free parameter."""
        return self.temperature * functional.normalize(weight, dim=-2)

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`; for a model that was built without it.

        Raises:
            GrokinterpError: a model whose unembedding has a bias.
        """
        bias = getattr(model.unembed, "b_U", None)
        if bias is not None and bool(bias.detach().any()):
            largest = float(bias.detach().abs().max())
            raise GrokinterpError(f"a cosine unembedding has no bias, and this model's is as large as {largest:.2g}; set it to 0 first")
        return [("unembed.hook_out", partial(_per_norm, model.unembed, self.temperature))]

    def check(self, config: ModelConfig) -> None:
        """See `InForce.check`."""
        if "unembed" in config.biases:
            raise GrokinterpError(f"CosineUnembed has no bias; leave 'unembed' out of biases {config.biases}")

    def install(self, model: Any, task: Task) -> None:
        """See `InForce.install`: the scaled, normalised columns become W_U itself."""
        from grokinterp.models.edited import unembed_by

        unembed_by(model, self)


@dataclass(frozen=True)
class UniformAttention(InForce):
    """Attention scores are 0: every position that may be attended to has the same weight, 1/3 for three positions without a causal mask.

    Queries and keys have no parameters then; values, outputs and position embeddings stay (arXiv 2603.05228).
    """

    kind: str = field(default="uniform_attention", init=False, repr=False)
    order = 70
    backends = ("HookedTransformer", "TransformerBridge")
    in_engine = True
    position_wise = True

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`."""
        return uniform_attention(model)

    def removes(self, parameter: str) -> bool:
        """See `InForce.removes`."""
        return layer_of_heads(parameter) is not None and parameter[-1] in "QK"


@dataclass(frozen=True)
class NoAttention(InForce):
    """The attention layers add nothing, and have no parameters: an MLP-only model.

    Read at the last position it sees the separator alone (the MLP-only model of arXiv 2606.12966 as published); with
    `MeanPool` it sees every token.
    """

    kind: str = field(default="no_attention", init=False, repr=False)
    order = 60
    contradicts = MappingProxyType({"uniform_attention": "one says how to attend, the other not to"})
    backends = ("HookedTransformer", "TransformerBridge")
    in_engine = True
    position_wise = True

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`."""
        return [(hook, _to_zero) for hook in Adapter(model).attention_hooks("out")]

    def check(self, config: ModelConfig) -> None:
        """See `InForce.check`."""
        if not config.d_mlp:
            raise GrokinterpError(f"NoAttention of an attention-only model (d_mlp = {config.d_mlp}) leaves nothing; give it an MLP")

    def removes(self, parameter: str) -> bool:
        """See `InForce.removes`."""
        return ".attn." in parameter or ".ln1." in parameter


@dataclass(frozen=True)
class MeanPool(InForce):
    """Every position begins with the mean over all positions of token plus position embedding, later ones included.

    With `NoAttention` this is the MLP-only model that can see both operands (chosen here).
    """

    kind: str = field(default="mean_pool", init=False, repr=False)
    order = 30
    in_engine = True

    def hooks(self, model: Any, task: Task) -> Hooks:
        """See `Intervention.hooks`."""
        return [(EMBEDDED, _pooled)]

    def check(self, config: ModelConfig) -> None:
        """See `InForce.check`."""
        if config.intervention(NoAttention) is None:
            raise GrokinterpError(f"{self} makes all positions the same, so there is nothing to attend to; give it together with NoAttention")


@dataclass(frozen=True)
class FourierInit(InForce):
    """Embedding dimensions 2i and 2i + 1 begin as cos and sin of 2πk_i x/n over the elements x of the task's cyclic group.

    All else begins as the model's initialisation rule says, and all of it is trained (arXiv 2603.05228).

    Attributes:
        frequencies: k_0, k_1, …, in 1 … ⌊n/2⌋; the paper's are of Z_113.
        amplitude: of the waves. 1 writes cos and sin as they are, beside N(0, 1) entries of the "pytorch" rule (chosen here); √(2/d_model) has the
            variance of the "nanda2023" rule's entries.
    """

    frequencies: tuple[int, ...] = (14, 35, 41, 42, 52)
    amplitude: float = 1.0
    kind: str = field(default="fourier_init", init=False, repr=False)
    order = 10
    in_engine = True
    position_wise = True

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "amplitude", float(self.amplitude))
        if not self.frequencies or len(set(self.frequencies)) < len(self.frequencies) or self.amplitude <= 0:
            raise GrokinterpError(f"a Fourier initialisation needs distinct frequencies and a positive amplitude; got {self}")

    def hooks(self, model: Any, task: Task) -> Hooks:
        """Raise a GrokinterpError: it acts on initial weights, and not on a finished model."""
        raise GrokinterpError(f"{self} says what a model begins with; build one with ModelConfig(interventions=({self},))")

    def initialise(self, model: Any, task: Task) -> None:
        """See `InForce.initialise`."""
        self.write(model.W_E.data, task)

    def install(self, model: Any, task: Task) -> None:
        """See `InForce.install`: nothing goes on acting."""

    def write(self, embedding: Tensor, task: Task) -> None:
        """Write the waves into W_E [token, d_model], in place.

        Raises:
            GrokinterpError: a task without a cyclic group, a frequency that the group does not have, or fewer than two dimensions for each.
        """
        operation = task.cyclic
        if operation is None:
            raise GrokinterpError(f"task {task.name!r} has no cyclic group, so its embedding has no frequencies to begin with; leave FourierInit out")
        check_frequencies(operation.order, np.array(self.frequencies))
        if 2 * len(self.frequencies) > embedding.shape[1]:
            raise GrokinterpError(f"{len(self.frequencies)} frequencies fill {2 * len(self.frequencies)} dimensions; d_model is {embedding.shape[1]}")
        k, x = torch.tensor(self.frequencies), torch.arange(operation.order)
        angle = 2 * torch.pi * (k * x[:, None] % operation.order).double() / operation.order
        waves = self.amplitude * torch.stack([angle.cos(), angle.sin()], dim=2).flatten(1)
        embedding[operation.token_of, : waves.shape[1]] = waves.to(embedding.dtype)


# Hook functions are functions of this module with their arguments bound, so that a copy of a model has copies of the modules in them.


def _through(norm: Any, value: Tensor, hook: Any) -> Tensor:
    normalised: Tensor = norm(value)
    return normalised


def _on_sphere(eps: float, value: Tensor, hook: Any) -> Tensor:
    return functional.normalize(value, dim=-1, eps=eps)


def _per_norm(unembed: Any, temperature: float, value: Tensor, hook: Any) -> Tensor:
    scaled: Tensor = temperature * value / unembed.W_U.norm(dim=0)
    return scaled


def _to_zero(value: Tensor, hook: Any) -> Tensor:
    return torch.zeros_like(value)


def _pooled(value: Tensor, hook: Any) -> Tensor:
    return value.mean(1, keepdim=True).repeat(1, value.shape[1], 1)
