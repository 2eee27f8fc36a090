"""What interventions in force do to the engine's rows; the forward pass calls these where HookedTransformer's hooks are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from grokinterp.interventions.architecture import CosineUnembed, PostNorm, Sphere
from grokinterp.models.transformers import ModelConfig

NORM_EPS = 1e-5  # HookedTransformerConfig's default, which build_model keeps

Stacked = Float[Tensor, "member _ _"]


def edited(config: ModelConfig, w: Mapping[str, Tensor], norm: str, rows: Stacked) -> Stacked:
    """The residual stream after an addition, as `PostNorm` or `Sphere` leaves it.

    Args:
        config: says which of them is in force, if any.
        w: stacked parameters by name.
        norm: the name that the place has in `PostNorm`.
        rows: residual streams.
    """
    if sphere := config.intervention(Sphere):
        return functional.normalize(rows, dim=-1, eps=sphere.eps)
    if (post := config.intervention(PostNorm)) is None or f"{norm}.w" not in w:
        return rows
    if post.norm == "rms":
        return functional.rms_norm(rows, rows.shape[-1:], eps=NORM_EPS) * w[f"{norm}.w"][:, None]
    return layer_norm(w, norm, rows)


def layer_norm(w: Mapping[str, Tensor], name: str, rows: Stacked) -> Stacked:
    """LayerNorm with each member's own weight and bias."""
    centred = functional.layer_norm(rows, rows.shape[-1:], eps=NORM_EPS)
    return torch.addcmul(w[f"{name}.b"][:, None], centred, w[f"{name}.w"][:, None])


def unembedding(config: ModelConfig, weights: Mapping[str, Tensor]) -> Float[Tensor, "member d_model answer"]:
    """W_U as it acts."""
    free, cosine = weights["unembed.W_U"], config.intervention(CosineUnembed)
    return cosine.columns(free) if cosine else free
