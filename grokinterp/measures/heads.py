"""Attention diagnostics: how alike the heads of a layer attend, and how far their entropies are spread.

"Weight Decay Regimes in Grokking Transformers" (arXiv 2605.20441). All three are read off attention patterns, after softmax,
on one fixed batch, and work on any transformer with a ``hook_pattern`` in each block.
"""

from __future__ import annotations

import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from grokinterp import plots
from grokinterp.errors import GrokinterpError
from grokinterp.measures import needs
from grokinterp.measures.headline import row_of
from grokinterp.measures.measure import Measure
from grokinterp.measures.undefined import finite, with_reasons
from grokinterp.models.adapter import Adapter
from grokinterp.plots.lazy import go
from grokinterp.snapshot import Snapshot

Pattern = Float[Tensor, "*layer example head query key"]
PerLayer = Float[Tensor, "*layer"]

BATCH = 512  # test examples (chosen here)
EPSILON = 1e-12


def heads(snapshot: Snapshot, batch_size: int = BATCH) -> xr.Dataset:
    """Head similarity, entropy spread and participation ratio of the attention patterns.

    Args:
        snapshot: a model and its task; the batch are `batch_size` test examples drawn with a fixed seed, or of all examples
            where the task has no split.
        batch_size: examples in it, at most.

    Returns:
        ``head_similarity``, ``entropy_spread`` (nats) and ``participation_ratio``, means over layers; the same by layer with ``_layer``
        appended; ``head_entropy`` (nats) by layer and head. A participation ratio is NaN where no head's pattern varies, with the reason.

    Raises:
        GrokinterpError: a model with a single head a layer, which has nothing to compare, or one that was built without attention.
    """
    adapter = Adapter(snapshot.model)
    needs.attention(snapshot)
    if adapter.n_heads < 2:
        raise GrokinterpError(f"head diagnostics compare the heads of a layer, and this model has {'one' if adapter.n_heads else 'none'}")
    sites = adapter.attention_hooks("pattern")
    kept = snapshot.activations(sites, snapshot.task.fixed_batch(batch_size))
    patterns = finite(torch.stack([kept[site] for site in sites]), "attention patterns")
    entropy = head_entropy(patterns)
    heads_first = patterns.transpose(-4, -3).to(torch.float64, memory_format=torch.contiguous_format)  # once for both that need it
    by_layer = {
        "head_similarity": head_similarity(heads_first.transpose(-4, -3)),
        "entropy_spread": entropy.std(-1, correction=0),
        "participation_ratio": participation_ratio(heads_first.transpose(-4, -3)),
    }
    dataset = xr.Dataset(
        {name: ((), values.mean().numpy()) for name, values in by_layer.items()}
        | {f"{name}_layer": (("layer",), values.numpy()) for name, values in by_layer.items()}
        | {"head_entropy": (("layer", "head"), entropy.numpy())},
    )
    still = [str(layer) for layer, value in enumerate(by_layer["participation_ratio"].tolist()) if value != value]
    if not still:
        return dataset
    return with_reasons(
        dataset, dict.fromkeys(("participation_ratio", "participation_ratio_layer"), f"no head's pattern varies in layer {', '.join(still)}")
    )


def head_similarity(pattern: Pattern) -> PerLayer:
    """Mean cosine between the flattened patterns of all pairs of different heads of a layer."""
    vectors = _by_head(pattern)
    n = vectors.shape[-2]
    sum_of_units: Tensor = vectors.square().sum(-1).rsqrt()[..., None, :] @ vectors
    # All cosines together are its squared length, of which n belong to a head with itself.
    return (sum_of_units.square().sum((-2, -1)) - n) / (n * (n - 1))


def head_entropy(pattern: Pattern) -> Float[Tensor, "*layer head"]:
    """Entropy of attention rows in nats, mean over examples and queries, for each head."""
    # The terms in the precision of the softmax, float32 or better: float16 turns ε into 0 and its logarithm into −∞.
    pattern = pattern.float() if pattern.dtype in (torch.float16, torch.bfloat16) else pattern
    terms = pattern * (pattern + EPSILON).log()
    return terms.sum((-4, -2, -1), dtype=torch.float64) / -(pattern.shape[-4] * pattern.shape[-2])


def participation_ratio(pattern: Pattern) -> PerLayer:
    """(R − 1)/(H − 1) with R = (Σα)²/Σα² over the eigenvalues α of the heads' H × H covariance.

    0 where all heads vary along one direction, 1 where they vary independently and equally.
    Heads are the variables and the entries of their flattened patterns the samples; NaN where no head's pattern varies.
    """
    vectors = _by_head(pattern)
    centred = vectors - vectors.mean(-1, keepdim=True)
    gram = centred @ centred.mT  # the covariance but for a factor, which cancels
    # Σα and Σα² are the trace of the covariance and of its square; no eigenvalues are needed. 0/0 is NaN.
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (trace.square() / gram.square().sum((-2, -1)) - 1) / (gram.shape[-1] - 1)


def _by_head(pattern: Pattern) -> Float[Tensor, "*layer head entry"]:
    return pattern.double().transpose(-4, -3).flatten(-3)


def likeness(dataset: xr.Dataset) -> go.Figure:
    """How alike the heads are, over steps: head similarity, participation ratio and entropy spread.

    Draws ``head_similarity``, ``participation_ratio`` and ``entropy_spread`` over at least two steps.
    """
    names = ("head_similarity", "participation_ratio", "entropy_spread")
    values = {name.replace("_", " "): plots.need(dataset, name, steps=2) for name in names}
    values = {f"{label} (nats)" if "entropy" in label else label: value for label, value in values.items()}
    caption = (
        "Similarity is the mean cosine between the attention patterns of two heads: at 1 all heads do the same. The participation ratio is 0 where "
        "they vary together and 1 where they vary independently; the entropy spread is how differently sharp they are."
    )
    return plots.layout_figure("How alike the heads are", caption, plots.lines_of(values), plots.STEPS, "cosine, ratio, or nats")


def entropies(dataset: xr.Dataset) -> go.Figure:
    """Entropy of each head's attention in nats, over steps.

    Draws ``head_entropy`` over at least two steps.
    """
    value = plots.need(dataset, "head_entropy", steps=2)
    places = [(layer, head) for layer in range(value.sizes["layer"]) for head in range(value.sizes["head"])]
    named = {place: f"layer {place[0]}, head {place[1]}" if value.sizes["layer"] > 1 else f"head {place[1]}" for place in places}
    lines = {named[layer, head]: value.isel(layer=layer, head=head) for layer, head in places}
    caption = "How widely a head spreads its attention, mean over inputs and queries: 0 where it looks at one token alone."
    return plots.layout_figure("Entropy of attention by head", caption, plots.lines_of(lines), plots.STEPS, "entropy (nats)")


MEASURE = Measure(
    heads,
    needs=(needs.attention,),
    rows=(
        row_of("head similarity", "head_similarity", ".4f", "mean cosine between the attention patterns of two heads of a layer"),
        row_of("entropy spread", "entropy_spread", ".4g", "standard deviation of the heads' entropies, in nats"),
        row_of("participation ratio of the heads", "participation_ratio", ".4f", "0 all vary together, 1 independently"),
    ),
    figures=(likeness, entropies),
)
