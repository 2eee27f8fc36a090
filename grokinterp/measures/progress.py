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

from grokinterp import plots
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.fourier import (
    check_frequencies,
    cosine_coefficients,
    fourier_components,
    frequency_power,
    frequency_projector,
    gini,
    neuron_frequency_shares,
)
from grokinterp.groups.operation import combined_mean
from grokinterp.measures.headline import Row, row_of
from grokinterp.measures.lookup import lookup_sums, mean_by_combination, nearly_all
from grokinterp.measures.loss import SHOWN, SPLITS, loss
from grokinterp.measures.measure import Measure
from grokinterp.measures.needs import cyclic, neurons, split
from grokinterp.measures.undefined import finite, with_reasons
from grokinterp.models.adapter import Adapter
from grokinterp.models.transformers import trained_parameters
from grokinterp.shapes import ElementLogits, Frequencies
from grokinterp.snapshot import Snapshot

if TYPE_CHECKING:
    import xarray as xr

KeyRule = Literal["W_L", "published"]
FVE_FORMS = ("raw", "row_centred", "class_centred")
NEURON_THRESHOLDS = (0.85, 0.90)
KEY_SHARE = 0.01
ROUNDING = 1e-12  # of the squared logits: less variance than this is rounding (chosen here)


def key_frequencies(snapshot: Snapshot, rule: KeyRule = "W_L", share: float = KEY_SHARE) -> Frequencies:
    """The frequencies that a model's circuit uses, ascending.

    Args:
        snapshot: the model; its task must have a cyclic group.
        rule: "W_L" (chosen here) keeps the frequencies of the neuron-to-logit map W_L = W_out·W_U that hold at least
            `share` of its squared norm, the constant removed; none where W_L is zero. "published" is the authors' code: the union over all neurons
            of the frequency that explains most of a neuron's variance, searched over 1 … ⌊n/2⌋ − 1, so that it
            leaves ⌊n/2⌋ out and picks up stray frequencies.
        share: smallest share of squared norm under "W_L", in [0, 1].

    Raises:
        GrokinterpError: an unknown rule, no cyclic group, or an attention-only model.
    """
    if rule == "W_L":
        power = frequency_power(neuron_logit_map(snapshot)).sum(1)
        return np.flatnonzero(np.asarray((power > 0) & (power >= share * power.sum()))) + 1
    if rule == "published":
        return _dominant_frequencies(_neuron_shares(snapshot)[:-1])
    raise unknown_name("key-frequency rule", rule, get_args(KeyRule))


def neuron_logit_map(snapshot: Snapshot) -> Tensor:
    """W_L = W_out·W_U: what each neuron of the last layer adds to the logit of each answer, [answer element, neuron], float64.

    Raises:
        GrokinterpError: an attention-only model or a task without a cyclic group.
    """
    model, elements = snapshot.model, cyclic(snapshot).token_of
    if Adapter(model).attention_only:
        raise GrokinterpError("W_L needs an MLP, and the model is attention-only; give key_frequencies yourself")
    return Adapter(model).neuron_logit_weights()[:, elements].T


def embedding_table(snapshot: Snapshot) -> Tensor:
    """W_E's rows of the group's elements, [element, d_model], float64."""
    with torch.no_grad():
        rows: Tensor = snapshot.model.W_E[cyclic(snapshot).token_of]
        return rows.double()


def progress(snapshot: Snapshot, frequencies: Sequence[int] | None = None, rule: KeyRule = "W_L") -> xr.Dataset:
    """Every progress measure of Nanda et al. 2023 on one snapshot.

    Args:
        snapshot: a model and its task, which must have a cyclic group and a split.
        frequencies: the key frequencies; None finds them by `rule` in ``snapshot.reference``, as a rule the run's last checkpoint.
        rule: see `key_frequencies`.

    Returns:
        Losses in nats, float64. Every result says which frequencies it used (``key_frequency``). What is not defined is NaN, with the reason in
        the variable's attribute ``undefined``.

        - over the whole table, see `loss`: ``loss``, ``accuracy`` by split, and ``unseen_loss``, ``unseen_accuracy``
        - over the group's pairs, the softmax over the group's elements, by split: ``group_loss``, ``group_accuracy``, ``restricted_loss``
          (key directions plus the mean logits), ``restricted_loss_no_mean``, ``excluded_loss`` (all key directions removed)
        - beside restricted loss, since its projection averages over training pairs too and so makes even a pure lookup table look general:
          ``restricted_loss_lookup`` by split, that of such a table (`lookup_sums`), and ``restricted_loss_held_out``, that of the test pairs
          when only test pairs are averaged (both chosen here)
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
    check_frequencies(cyclic(snapshot).order, keys)
    finite(snapshot.logits, "the logits")
    sums = combined_mean(snapshot.logit_table, cyclic(snapshot))
    parts = [_losses(snapshot, keys, sums), _variance_explained(snapshot, keys, sums), _weights(snapshot, keys), _neurons(snapshot)]
    coordinates = {
        "key_frequency": keys,
        "split": list(SPLITS),
        "frequency": np.arange(1, cyclic(snapshot).order // 2 + 1),
        "form": list(FVE_FORMS),
        "matrix": ["W_E", "W_L"],
        "kind": ["components", "frequencies"],
        "threshold": list(NEURON_THRESHOLDS),
        "parameter": list(trained_parameters(snapshot.model)),
    }
    dataset = loss(snapshot).merge(xr.Dataset({name: value for part in parts for name, value in part.items()}, coords=coordinates))
    for name, meaning in _OVER_PAIRS.items():
        dataset[name].attrs |= {"long_name": f"{name.replace('_', ' ')}, over the group's pairs", "description": meaning}
    return with_reasons(dataset, _reasons(dataset))


Arrays = dict[str, tuple[tuple[str, ...], np.ndarray]]

_OVER_PAIRS = {
    "group_loss": "Cross-entropy (nats) of the group's pairs, the softmax over the group's elements alone: what restricted loss compares with.",
    "group_accuracy": "Share of the group's pairs whose largest logit among the group's elements is the right one.",
    "restricted_loss": "Cross-entropy (nats) when only the key frequencies and the mean are kept in the logits.",
    "restricted_loss_no_mean": "Cross-entropy (nats) when only the key frequencies are kept in the logits.",
    "restricted_loss_lookup": "Restricted loss (nats) of a lookup table: it knows exactly the training pairs, with the model's own training loss.",
    "restricted_loss_held_out": "Restricted loss (nats) of test pairs when logits are averaged over test pairs alone; a lookup table has ln n.",
    "excluded_loss": "Cross-entropy (nats) when the key frequencies are taken out of the logits.",
    "excluded_loss_each": "Cross-entropy (nats) of training pairs when one key frequency is taken out of the logits.",
}
_OF_KEYS = (
    "restricted_loss",
    "restricted_loss_no_mean",
    "restricted_loss_lookup",
    "restricted_loss_held_out",
    "excluded_loss",
    "fve",
    "key_power_share",
)


def _reasons(dataset: xr.Dataset) -> dict[str, str | None]:
    """Why a variable holds NaN, for those that do."""
    constant = int(dataset["neuron_share"].isnull().sum())
    dead = f"{constant} of {dataset.sizes['neuron']} neurons are constant over all pairs"
    reasons = {
        "neuron_frequency": dead,
        "neuron_share": dead,
        "gini": "a matrix that is zero has no Gini coefficient",
        "key_power_share": "a matrix that is zero has no power to share",
        "fve": "the logits do not vary",
        "restricted_loss_lookup": "training loss is 0 in float64, which no table of finite logits has",
        "restricted_loss_held_out": "some combination of operands has no pair among the test pairs",
    }
    if not dataset.sizes["key_frequency"]:
        reasons |= dict.fromkeys(_OF_KEYS, "there are no key frequencies" + ("" if float(dataset["W_L_norm"].max()) > 0 else ": W_L is zero"))
    return {name: reason for name, reason in reasons.items() if bool(dataset[name].isnull().any())}


def _losses(snapshot: Snapshot, keys: Frequencies, sums: ElementLogits) -> Arrays:
    """Losses and accuracy over the group's pairs; `sums` are the mean logits of the pairs with each combination."""
    logits, answers, n = snapshot.logit_table, snapshot.answer_table, cyclic(snapshot).order
    train, s = snapshot.table(split(snapshot)), cyclic(snapshot).combination()
    masks = {"all": torch.ones_like(train), "train": train, "test": ~train}
    projector = frequency_projector(n, keys)
    key_part = projector @ sums  # [s, c]; a pair's projection is the row of its s
    own = _nats(logits, answers)
    known = lookup_sums(train, answers, s, n, float(own[train].mean()))
    held_out = mean_by_combination(logits[~train], s[~train], n)
    values = {
        "group_loss": own,
        "group_accuracy": (logits.argmax(-1) == answers).double(),
        "restricted_loss": _nats_of_rows(key_part + sums.mean(0), s, answers),
        "restricted_loss_no_mean": _nats_of_rows(key_part, s, answers),
        "restricted_loss_lookup": _nats_of_rows(projector @ known + known.mean(0), s, answers),
        "excluded_loss": _nats(logits - key_part[s], answers),
    }
    result: Arrays = {name: (("split",), np.array([float(value[masks[split]].mean()) for split in SPLITS])) for name, value in values.items()}
    on_held_out = _nats_of_rows(projector @ held_out + held_out.mean(0), s[~train], answers[~train]).mean()

    train_logits, train_s, train_answers = logits[train], s[train], answers[train]
    each = [_nats(train_logits - (frequency_projector(n, np.array([key])) @ sums)[train_s], train_answers).mean() for key in keys]
    result |= {
        "restricted_loss_held_out": ((), np.array(float(on_held_out))),
        "excluded_loss_each": (("key_frequency",), np.array(each, dtype=float)),
    }
    if not len(keys):  # of nothing kept or taken out there is no loss to speak of
        result |= {name: (dims, np.full_like(value, np.nan)) for name, (dims, value) in result.items() if name in _OF_KEYS}
    return result


def _nats(logits: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of every row of logits, in nats."""
    flat = cross_entropy(logits.reshape(-1, logits.shape[-1]), answers.flatten(), reduction="none")
    return flat.reshape(answers.shape)


def _nats_of_rows(rows: Tensor, s: Tensor, answers: Tensor) -> Tensor:
    """Cross-entropy of every pair, where a pair's logits are the row of its combination s."""
    return -rows.log_softmax(-1)[s, answers]


def _variance_explained(snapshot: Snapshot, keys: Frequencies, sums: ElementLogits) -> Arrays:
    """Logit coefficients and the fraction of the logits' variance that the key frequencies' cosines explain."""
    logits, n = snapshot.logit_table, cyclic(snapshot).order
    coefficients = cosine_coefficients(sums, n_pairs=n)
    explained = coefficients[torch.from_numpy(keys - 1)].square().sum()
    # cos w_k(s − c) has mean 0 over c and over pairs, so taking row or class means off leaves the coefficients as they are.
    squares, row_means, class_means = logits.square().sum(), logits.mean(-1), logits.mean((0, 1))
    raw = squares - n**3 * class_means.mean().square()
    row_centred = squares - n * row_means.square().sum()
    class_centred = row_centred - n**2 * (class_means - class_means.mean()).square().sum()
    # Constant logits leave rounding errors, whose quotient would look like a result.
    fve = torch.stack(
        [explained / total if len(keys) and total > ROUNDING * squares else explained * torch.nan for total in (raw, row_centred, class_centred)]
    )
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
        ginis.append([gini(values) if float(values.max()) > 0 else np.nan for values in (components, power.sqrt())])
        shares.append(float(power[index].sum() / power.sum()) if len(keys) else np.nan)
    squares = np.array([float(parameter.detach().double().square().sum()) for parameter in trained_parameters(snapshot.model).values()])
    return result | {
        "gini": (("matrix", "kind"), np.array(ginis)),
        "key_power_share": (("matrix",), np.array(shares)),
        "parameter_squares": (("parameter",), squares),
        "sum_of_squares": ((), squares.sum()),
    }


def _neuron_shares(snapshot: Snapshot) -> Tensor:
    """Share of variance by frequency and neuron of the last MLP, after the nonlinearity, [frequency, neuron]."""
    return neuron_frequency_shares(snapshot.table(snapshot.readout(snapshot.last_mlp)), cyclic(snapshot))


def _neurons(snapshot: Snapshot) -> Arrays:
    """Each neuron's dominant frequency and its share of the neuron's variance; NaN for constant neurons."""
    shares = _neuron_shares(snapshot)
    best = shares.max(0)
    share = best.values.numpy()
    frequency = np.where(np.isnan(share), np.nan, best.indices.numpy() + 1.0)
    above = np.array([int((share > threshold).sum()) for threshold in NEURON_THRESHOLDS])
    published = np.isin(np.arange(1, cyclic(snapshot).order // 2 + 1), _dominant_frequencies(shares[:-1]))
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


def _listed(values: np.ndarray) -> str:
    return ", ".join(str(int(value)) for value in values) or "none"


def _excluded_each(last: xr.Dataset) -> str:
    each = last["excluded_loss_each"]
    return ", ".join(f"{int(k)}: {float(value):.3g}" for k, value in zip(each["key_frequency"], each, strict=True)) or "no key"


def _rule(last: xr.Dataset) -> str:
    keys, n = last.sizes["key_frequency"], last.sizes["frequency"]
    few = "at least 1 % of the squared norm of W_L = W_out·W_U"
    return f"{few}; {keys} of {n} are nearly all: a lookup table has a low restricted loss too" if nearly_all(keys, n) else few


def _strongest(name: str, n: int = 6) -> Row:
    def value(last: xr.Dataset) -> str:
        norms = last[name]
        return ", ".join(f"{int(norms['frequency'][i])} ({float(norms[i]):.3g})" for i in np.argsort(-norms.to_numpy())[:n])

    return Row(f"{name.removesuffix('_norm')}, strongest frequencies (norm)", {name}, value, aside=True)


_ZERO_TO_ONE = "0 all equal, near 1 sparse"
MEASURE = Measure(
    progress,
    needs=(cyclic, split, neurons),
    rows=(
        row_of("restricted loss, train / test / all pairs", "restricted_loss", ".4g", "only the key frequencies kept in the logits", split=SHOWN),
        row_of("… of a lookup table", "restricted_loss_lookup", ".4g", "of the training pairs alone, with the model's training loss", split=SHOWN),
        row_of("… when only test pairs are averaged, test", "restricted_loss_held_out", ".4g", "a lookup table has no part in it", aside=True),
        row_of("… without the mean logits, all pairs", "restricted_loss_no_mean", ".3g", aside=True, split="all"),
        row_of("excluded loss, train / test", "excluded_loss", ".4g", "the key frequencies taken out of the logits", split=("train", "test")),
        Row("excluded loss of one key, train", {"excluded_loss_each"}, _excluded_each, "one key frequency taken out at a time", True),
        Row("key frequencies", {"W_L_norm", "excluded_loss_each"}, lambda last: _listed(last["key_frequency"].to_numpy()), _rule),
        Row(
            "key frequencies, published rule",
            {"published_key"},
            lambda last: _listed(last["frequency"].to_numpy()[last["published_key"].to_numpy() == 1]),
            "strongest in at least one neuron",
            True,
        ),
        row_of(
            "FVE raw / row-centred / less class mean",
            "fve",
            ".4f",
            "share of the logits' variance that cos w(a + b − c) of the keys explains",
            aside=True,
            form=FVE_FORMS,
        ),
        Row(
            "neurons above 85 % / 90 %",
            {"neurons_above", "neuron_share"},
            lambda last: f"{' / '.join(f'{float(count):.0f}' for count in last['neurons_above'])} of {last.sizes['neuron']}",
            "of their variance at one frequency",
            True,
        ),
        _strongest("W_E_norm"),
        _strongest("W_L_norm"),
        row_of(
            "power in the key frequencies, W_L / W_E",
            "key_power_share",
            ".3f",
            "of the squared norm, the constant removed",
            aside=True,
            matrix=("W_L", "W_E"),
        ),
        row_of("Gini of W_E, components / frequencies", "gini", ".4f", _ZERO_TO_ONE, aside=True, matrix="W_E", kind=("components", "frequencies")),
        row_of("Gini of W_L, components / frequencies", "gini", ".4f", _ZERO_TO_ONE, aside=True, matrix="W_L", kind=("components", "frequencies")),
        row_of("sum of squared weights", "sum_of_squares", ".2f", "over all parameters that the model has", aside=True),
    ),
    figures=(
        plots.progress,
        plots.key_frequencies_removed,
        plots.embedding_spectrum,
        plots.logit_map_spectrum,
        plots.neurons,
        plots.fve,
        plots.gini,
    ),
)
