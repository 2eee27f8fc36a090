"""Nanda's progress measures: how much of a model is the Fourier circuit, read off one snapshot.

Definitions follow "Progress measures for grokking via mechanistic interpretability" (arXiv 2301.05217, sections 3–5 and the
published code); x and y are the operands as group elements, s their combination (x + y for addition), c an answer.

The projection of the logits on cos w_k(s) and sin w_k(s) depends on a pair through s alone, so restricted losses are
computed on n rows of logits instead of n², and excluded losses by one subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.fourier import (
    check_frequencies,
    combination_table,
    combined_mean,
    component_names,
    cosine_coefficients,
    fourier_components,
    frequency_power,
    frequency_projector,
    gini,
    neuron_frequency_shares,
    pair_spectrum,
)
from grokinterp.models.adapter import Adapter
from grokinterp.models.transformers import trained_parameters
from grokinterp.shapes import ElementLogits, Frequencies
from grokinterp.snapshot import Snapshot

if TYPE_CHECKING:
    import xarray as xr

KeyRule = Literal["W_L", "published"]
SPLITS = ("all", "train", "test")
FVE_FORMS = ("raw", "row_centred", "class_centred")
NEURON_THRESHOLDS = (0.85, 0.90)
KEY_SHARE = 0.01


def key_frequencies(snapshot: Snapshot, rule: KeyRule = "W_L", share: float = KEY_SHARE) -> Frequencies:
    """The frequencies that a model's circuit uses, ascending.

    Args:
        snapshot: the model; its task must have a cyclic group.
        rule: "W_L" (chosen here) keeps the frequencies of the neuron-to-logit map W_L = W_out·W_U that hold at least
            `share` of its squared norm, the constant removed. "published" is the authors' code: the union over all neurons
            of the frequency that explains most of a neuron's variance, searched over 1 … ⌊n/2⌋ − 1, so that it
            leaves ⌊n/2⌋ out and picks up stray frequencies.
        share: smallest share of squared norm under "W_L", in [0, 1].

    Raises:
        GrokinterpError: an unknown rule, no cyclic group, or an attention-only model.
    """
    if rule == "W_L":
        power = frequency_power(neuron_logit_map(snapshot)).sum(1)
        return np.flatnonzero(np.asarray(power >= share * power.sum())) + 1
    if rule == "published":
        return _dominant_frequencies(_neuron_shares(snapshot)[:-1])
    raise unknown_name("key-frequency rule", rule, get_args(KeyRule))


def neuron_logit_map(snapshot: Snapshot) -> Tensor:
    """W_L = W_out·W_U: what each neuron of the last layer adds to the logit of each answer, [answer element, neuron], float64.

    Raises:
        GrokinterpError: an attention-only model or a task without a cyclic group.
    """
    model, elements = snapshot.model, torch.tensor(snapshot.group.tokens)
    if model.cfg.attn_only:
        raise GrokinterpError("W_L needs an MLP, and the model is attention-only; give key_frequencies yourself")
    return Adapter(model).neuron_logit_weights()[:, elements].T


def embedding_table(snapshot: Snapshot) -> Tensor:
    """W_E's rows of the group's elements, [element, d_model], float64."""
    with torch.no_grad():
        rows: Tensor = snapshot.model.W_E[torch.tensor(snapshot.group.tokens)]
        return rows.double()


def progress(snapshot: Snapshot, frequencies: Sequence[int] | None = None, rule: KeyRule = "W_L") -> xr.Dataset:
    """Every progress measure of Nanda et al. 2023 on one snapshot.

    Args:
        snapshot: a model and its task, which must have a cyclic group and a split.
        frequencies: the key frequencies; None finds them by `rule` in ``snapshot.reference``, as a rule the run's last checkpoint.
        rule: see `key_frequencies`.

    Returns:
        Losses in nats over the task's answers, float64. Every result says which frequencies it used (``key_frequency``).

        - by split: ``loss``, ``accuracy``, ``restricted_loss`` (key directions plus the mean logits),
          ``restricted_loss_no_mean``, ``excluded_loss`` (all key directions removed)
        - by key_frequency: ``excluded_loss_each`` (that one removed, training pairs)
        - by frequency: ``logit_coefficient``, ``W_E_norm``, ``W_L_norm``, ``published_key`` (whether the published rule picks it)
        - ``fve`` by form; ``gini`` by matrix and kind; ``key_power_share`` by matrix
        - ``neuron_frequency`` and ``neuron_share`` by neuron, ``neurons_above`` by threshold
        - ``sum_of_squares`` in total, ``parameter_squares`` by parameter

    Raises:
        GrokinterpError: no cyclic group, no split, an attention-only model, or a frequency outside 1 … ⌊n/2⌋.
    """
    import xarray as xr

    keys = key_frequencies(snapshot.reference, rule) if frequencies is None else np.unique(np.asarray(frequencies, dtype=int))
    check_frequencies(snapshot.group.order, keys)
    sums = combined_mean(snapshot.logit_table, snapshot.group)
    parts = [_losses(snapshot, keys, sums), _variance_explained(snapshot, keys, sums), _weights(snapshot, keys), _neurons(snapshot)]
    coordinates = {
        "key_frequency": keys,
        "split": list(SPLITS),
        "frequency": np.arange(1, snapshot.group.n_frequencies + 1),
        "form": list(FVE_FORMS),
        "matrix": ["W_E", "W_L"],
        "kind": ["components", "frequencies"],
        "threshold": list(NEURON_THRESHOLDS),
        "parameter": list(trained_parameters(snapshot.model)),
    }
    return xr.Dataset({name: value for part in parts for name, value in part.items()}, coords=coordinates)


Arrays = dict[str, tuple[tuple[str, ...], np.ndarray]]


def _losses(snapshot: Snapshot, keys: Frequencies, sums: ElementLogits) -> Arrays:
    """Loss, accuracy, restricted and excluded losses; `sums` are the mean logits of the pairs with each combination."""
    logits, answers, n = snapshot.logit_table, snapshot.answer_table, snapshot.group.order
    s = combination_table(snapshot.group)
    key_part = frequency_projector(n, keys) @ sums  # [s, c]; a pair's projection is the row of its s
    values = {
        "loss": _nats(logits, answers),
        "accuracy": (logits.argmax(-1) == answers).double(),
        "restricted_loss": _nats_of_rows(key_part + sums.mean(0), s, answers),
        "restricted_loss_no_mean": _nats_of_rows(key_part, s, answers),
        "excluded_loss": _nats(logits - key_part[s], answers),
    }
    train = snapshot.table(_train_mask(snapshot))
    masks = {"all": torch.ones_like(train), "train": train, "test": ~train}
    result: Arrays = {name: (("split",), np.array([float(value[masks[split]].mean()) for split in SPLITS])) for name, value in values.items()}

    train_logits, train_s, train_answers = logits[train], s[train], answers[train]
    each = [_nats(train_logits - (frequency_projector(n, np.array([key])) @ sums)[train_s], train_answers).mean() for key in keys]
    return result | {"excluded_loss_each": (("key_frequency",), np.array(each, dtype=float))}


def _train_mask(snapshot: Snapshot) -> Tensor:
    if snapshot.task.train is None:
        raise GrokinterpError(
            f"progress measures need a train/test split; call task.split(train_fraction, seed) on task {snapshot.task.name!r} first"
        )
    return snapshot.task.train


def _nats(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of every row of logits, in nats."""
    flat = cross_entropy(logits.reshape(-1, logits.shape[-1]), answers.flatten(), reduction="none")
    return flat.reshape(answers.shape)


def _nats_of_rows(rows: Tensor, s: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of every pair, where a pair's logits are the row of its combination s."""
    return -rows.log_softmax(-1)[s, answers]


def _variance_explained(snapshot: Snapshot, keys: Frequencies, sums: ElementLogits) -> Arrays:
    """Logit coefficients and the fraction of the logits' variance that the key frequencies' cosines explain."""
    logits, n = snapshot.logit_table, snapshot.group.order
    coefficients = cosine_coefficients(sums, n_pairs=n)
    explained = coefficients[torch.from_numpy(keys - 1)].square().sum()
    # cos w_k(s − c) has mean 0 over c and over pairs, so taking row or class means off leaves the coefficients as they are.
    squares, row_means, class_means = logits.square().sum(), logits.mean(-1), logits.mean((0, 1))
    raw = squares - n**3 * class_means.mean().square()
    row_centred = squares - n * row_means.square().sum()
    class_centred = row_centred - n**2 * (class_means - class_means.mean()).square().sum()
    fve = torch.stack([explained / total for total in (raw, row_centred, class_centred)])
    return {"logit_coefficient": (("frequency",), coefficients.numpy()), "fve": (("form",), fve.numpy())}


def _weights(snapshot: Snapshot, keys: Frequencies) -> Arrays:
    """Fourier norms and Gini coefficients of W_E and W_L, and sums of squared weights."""
    index = torch.from_numpy(keys - 1)
    result: Arrays = {}
    ginis, shares = [], []
    for name, matrix in (("W_E", embedding_table(snapshot)), ("W_L", neuron_logit_map(snapshot))):
        power = frequency_power(matrix).sum(1)
        components = torch.linalg.vector_norm(fourier_components(matrix), dim=1)
        result[f"{name}_norm"] = (("frequency",), power.sqrt().numpy())
        ginis.append([gini(components), gini(power.sqrt())])
        shares.append(float(power[index].sum() / power.sum()))
    squares = np.array([float(parameter.detach().double().square().sum()) for parameter in trained_parameters(snapshot.model).values()])
    return result | {
        "gini": (("matrix", "kind"), np.array(ginis)),
        "key_power_share": (("matrix",), np.array(shares)),
        "parameter_squares": (("parameter",), squares),
        "sum_of_squares": ((), squares.sum()),
    }


def _neuron_shares(snapshot: Snapshot) -> Tensor:
    """Share of variance by frequency and neuron of the last MLP, after the nonlinearity, [frequency, neuron]."""
    return neuron_frequency_shares(snapshot.table(snapshot.readout(snapshot.last_mlp)), snapshot.group)


def _neurons(snapshot: Snapshot) -> Arrays:
    """Each neuron's dominant frequency and its share of the neuron's variance; NaN for constant neurons."""
    shares = _neuron_shares(snapshot)
    best = shares.max(0)
    share = best.values.numpy()
    frequency = np.where(np.isnan(share), np.nan, best.indices.numpy() + 1.0)
    above = np.array([int((share > threshold).sum()) for threshold in NEURON_THRESHOLDS])
    published = np.isin(np.arange(1, snapshot.group.n_frequencies + 1), _dominant_frequencies(shares[:-1]))
    return {
        "neuron_frequency": (("neuron",), frequency),
        "neuron_share": (("neuron",), share),
        "neurons_above": (("threshold",), above),
        "published_key": (("frequency",), published),
    }


def _dominant_frequencies(shares: Tensor) -> Frequencies:
    """The frequencies that explain most of at least one neuron that is not constant."""
    if not len(shares):
        return np.array([], dtype=int)
    alive = ~shares.isnan().any(0)
    return np.unique(np.asarray(shares[:, alive].argmax(0))) + 1


def spectrum(snapshot: Snapshot) -> xr.Dataset:
    """The logits in the two-dimensional Fourier basis (Nanda et al. 2023, section 4).

    Returns:
        ``logit_component_norm`` [component_x, component_y]: the norm over answers of each component of the logits over pairs,
        float32; the constant of every answer, which no operand moves, is left out.

    Raises:
        GrokinterpError: a task without a cyclic group.
    """
    import xarray as xr

    names = component_names(snapshot.group.order)
    norm = torch.linalg.vector_norm(pair_spectrum(snapshot.logit_table.float()), dim=2)
    norm[0, 0] = 0
    return xr.Dataset({"logit_component_norm": (("component_x", "component_y"), norm.numpy())}, coords={"component_x": names, "component_y": names})
