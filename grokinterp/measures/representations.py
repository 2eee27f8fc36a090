"""Which irreducible representations a model of composition in a group computes with (arXiv 2302.03025), read off one snapshot.

a and b are the operands as group elements, s = ab their product (with the exponents of the task), c an answer. P_ρ projects functions on the group
on the span of ρ's matrix entries. On Z_n the irreducible representations are the frequencies, and the numbers those of `progress`.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import cross_entropy

from grokinterp import plots
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.groups.group import Group
from grokinterp.groups.operation import combined_mean
from grokinterp.groups.transform import check_irreps, irrep_power, irrep_projector
from grokinterp.measures.headline import Row, row_of
from grokinterp.measures.lookup import lookup_sums
from grokinterp.measures.loss import SHOWN, SPLITS
from grokinterp.measures.measure import Measure
from grokinterp.measures.needs import group, neurons, split
from grokinterp.measures.undefined import finite, with_reasons
from grokinterp.models.adapter import Adapter, placed
from grokinterp.models.readout import OUTPUT, at_readout
from grokinterp.snapshot import Snapshot

if TYPE_CHECKING:
    import xarray as xr

KeyRule = Literal["above_chance", "published"]
KEY = 0.005  # similarity of the logits to χ(abc⁻¹) above which a representation is key (the paper)
LEVEL = 0.01  # share of models at chance that may have a key representation (chosen here)
MATRICES = ("W_a", "W_b", "W_U")
PARTS = ("a", "b", "ab")
ROUNDING = 1e-12  # of the squared values: less variance than this is rounding (chosen here)

Parts = Float64[Tensor, "element neuron"]


def representations(snapshot: Snapshot, keys: Sequence[str] | None = None, keep_residual: bool = True, rule: KeyRule = "above_chance") -> xr.Dataset:
    """Evidence for each irreducible representation in logits, weights and neurons, and the loss with and without it.

    Args:
        snapshot: a model and its task, which must have a group and a split.
        keys: the key representations; None for those of ``snapshot.reference``, see `key_representations`.
        keep_residual: whether restricted losses keep what reaches the logits past the neurons (chosen here); the published code drops it. A
            model whose logits are linear in its neurons alone has nothing there.
        rule: of the key representations, see `key_threshold`; it has no say where `keys` are given.

    Returns:
        Nothing here depends on the trivial representation. Losses in nats, float64, the softmax over the group's elements.

        - by irrep ``logit_similarity``, the cosine of row-centred logits and χ(abc⁻¹); ``logit_irreps_fve``, the sum of its squares;
          ``key_threshold``, the similarity above which a representation is key by the rule, and ``chance_similarity``
        - by matrix (W_a and W_b, what each operand adds to the first neurons where these have no attention before them, else the embedding; W_U,
          what each neuron adds to each answer) and irrep ``weight_irrep_share``, ‖P_ρ W‖²/‖W‖²; summed over keys ``weight_key_share``
        - by part (functions of a, of b, of ab) and irrep ``neuron_irrep_share`` of the variance of the last neurons over all pairs; summed over
          keys ``neuron_key_share``, and ``neuron_fve`` over the parts, too
        - by split ``restricted_loss_keys``: the neurons replaced by P F read at ab, with F their mean over pairs of one product and P of the keys;
          ``excluded_loss_keys``: that part taken out; ``restricted_loss_keys_lookup``: restricted loss of a table that knows the training
          pairs alone, see `lookup_sums`; ``pairs_loss``: the model as it is
        - by key_irrep and split ``restricted_loss_irrep`` and ``excluded_loss_irrep`` of one representation

        What is not defined is NaN, with the reason in the variable's attribute ``undefined``.

    Raises:
        GrokinterpError: no group, no split, an attention-only model, an unknown rule, a representation that the group lacks, residual dropped
            where logits are not known to be linear in the neurons.
    """
    import xarray as xr

    operation = snapshot.operation
    finite(snapshot.logits, "the logits")
    threshold = key_threshold(operation.group, rule)
    chosen = list(key_representations(snapshot.reference, rule) if keys is None else keys)
    names = list(operation.group.irreps)[1:]
    if chosen:
        check_irreps(operation.group, chosen)
    is_key = np.isin(names, chosen)
    found = _similarities(snapshot)
    weights = torch.stack([_shares(operation.group, matrix) for matrix in _matrices(snapshot).values()])
    shares = _neuron_shares(snapshot)
    arrays: dict[str, Any] = {
        "logit_similarity": (("irrep",), found.numpy()),
        "logit_irreps_fve": ((), float(found.square().sum())),
        "key_threshold": ((), threshold),
        "chance_similarity": ((), chance_similarity(operation.group)),
        "weight_irrep_share": (("matrix", "irrep"), weights.numpy()),
        "weight_key_share": (("matrix",), weights[:, is_key].sum(1).numpy()),
        "neuron_irrep_share": (("part", "irrep"), shares.numpy()),
        "neuron_key_share": (("part",), shares[:, is_key].sum(1).numpy()),
        "neuron_fve": ((), float(shares[:, is_key].sum())),
    }
    coordinates = {"irrep": names, "key_irrep": chosen, "matrix": list(MATRICES), "part": list(PARTS), "split": list(SPLITS)}
    dataset = xr.Dataset(arrays | _losses(snapshot, chosen, keep_residual), coords=coordinates)
    dataset["logit_similarity"].attrs |= {"long_name": "similarity of the logits to χ(abc⁻¹)", "units": "cosine"}
    return with_reasons(dataset, _reasons(dataset))


def key_representations(snapshot: Snapshot, rule: KeyRule = "above_chance") -> list[str]:
    """The irreducible representations whose χ(abc⁻¹) the logits resemble by more than `key_threshold`, the trivial one left out.

    Raises:
        GrokinterpError: no group, or an unknown rule.
    """
    threshold, names = key_threshold(snapshot.operation.group, rule), list(snapshot.operation.group.irreps)[1:]
    return [name for name, similarity in zip(names, _similarities(snapshot).tolist(), strict=True) if similarity > threshold]


def key_threshold(group: Group, rule: KeyRule = "above_chance") -> float:
    """The similarity of the logits to χ(abc⁻¹) above which a representation is key.

    Under "published" it is the paper's 0.005, for which the paper gives no null; of random MLPs on a group of 8 elements most have a similarity above
    it. "above_chance" is the larger of that and `chance_similarity`: the default, since a key representation should be one that the model has
    learned. From about 80 elements on the two are the same, as on S_5 and D_59.

    Args:
        group: of the task.
        rule: "above_chance" or "published".

    Raises:
        GrokinterpError: an unknown rule.
    """
    if rule not in get_args(KeyRule):
        raise unknown_name("rule of key representations", rule, get_args(KeyRule))
    return KEY if rule == "published" else max(KEY, chance_similarity(group))


def chance_similarity(group: Group, level: float = LEVEL) -> float:
    """What chance gives the largest similarity over all representations: at most a share `level` of models at chance exceed it (chosen here).

    Chance is the labels of a, of b and of c permuted, each by itself. Over these permutations a similarity has mean 0 and standard deviation
    (n − 1)^(−3/2) · ‖L₃‖/‖L‖, with n the group's order, L the row-centred logits and L₃ their part whose means over a, over b and over c are 0: χ has
    no other part, and on this one the permutations act irreducibly (Schur's lemma). Here ‖L₃‖ counts as ‖L‖, which is its largest, and the
    similarity as normal; by Bonferroni the largest over all representations is covered.

    Random weights stay far below, since most of their logits is not in L₃: 0.2 to 0.3 of ‖L‖ in MLPs, 0.03 in transformers. Transformers, whose
    operands share their tokens, spread up to 1.4 times as wide as the formula with their own ‖L₃‖ (over 200 seeds on nine groups of 3 to 16
    elements). A model that gives nothing but right answers exceeds it in every representation of a group of three elements or more.

    Args:
        group: of the task; a group of two elements has a chance similarity above 1, since permuted labels are right half of the time.
        level: that share.
    """
    others = len(group.irreps) - 1
    return NormalDist().inv_cdf(1 - level / others) * (group.order - 1) ** -1.5 if others else 0.0


def _similarities(snapshot: Snapshot) -> Float64[Tensor, "irrep"]:
    """Cosine over all pairs and answers of row-centred logits and χ_ρ(sc⁻¹), of each ρ but the trivial one."""
    logits, operation = snapshot.logit_table, snapshot.operation
    group, n = operation.group, operation.order
    centred = logits.square().sum() - n * logits.mean(-1).square().sum()
    # A character depends on a pair through its product alone, so that n rows of mean logits say all.
    sums = combined_mean(logits, operation)
    ratio = group.product[:, group.inverse]  # [s, c] = sc⁻¹
    characters = [rho.character for rho in list(group.irreps.values())[1:]]
    products = torch.stack([n * (character[ratio] * sums).sum() for character in characters])
    norms = torch.stack([n * torch.linalg.vector_norm(character) for character in characters])
    varies = centred > ROUNDING * logits.square().sum()
    similarities: Tensor = products / (centred.sqrt() * norms) if varies else torch.full_like(products, torch.nan)
    return similarities


def _matrices(snapshot: Snapshot) -> dict[str, Tensor]:
    """What each operand and each answer has of its own in the weights, as functions on the group, [element, …]."""
    adapter, operation = Adapter(snapshot.model), snapshot.operation
    tokens = snapshot.table(snapshot.task.tokens)
    sides = [adapter.token_weights(position) for position in (0, 1)]
    first, second = sides[0][tokens[:, 0, 0]], sides[1][tokens[0, :, 1]]
    return {"W_a": first, "W_b": second, "W_U": adapter.neuron_logit_weights().cpu()[:, operation.token_of].T}


def _shares(group: Group, matrix: Tensor) -> Float64[Tensor, "irrep"]:
    """‖P_ρ W‖²/‖W‖² of each representation but the trivial one, W not centred; NaN for W = 0."""
    power = irrep_power(group, matrix.double().flatten(1)).sum(1)
    return power[1:] / torch.where(power.sum() > 0, power.sum(), torch.nan)


def _neuron_shares(snapshot: Snapshot) -> Float64[Tensor, "part irrep"]:
    """Shares of the variance over all pairs of the last neurons, at the read-out position, that functions of a, of b and of ab in ρ explain."""
    table, operation = snapshot.table(snapshot.readout(snapshot.last_mlp)), snapshot.operation
    n, mean = operation.order, table.double().mean((0, 1))
    total = sum((row.double() - mean).square().sum() for row in table)
    marginals = (table.double().mean(1), table.double().mean(0), combined_mean(table, operation, dtype=torch.float64))
    power = torch.stack([n * irrep_power(operation.group, marginal - mean)[1:].sum(1) for marginal in marginals])
    floor = ROUNDING * n * n * mean.square().sum()
    shares: Tensor = power / torch.where(torch.as_tensor(total) > floor, torch.as_tensor(total), torch.nan)
    return shares


def _losses(snapshot: Snapshot, keys: list[str], keep_residual: bool) -> dict[str, Any]:
    operation, answers = snapshot.operation, snapshot.answer_table
    train, s = snapshot.table(split(snapshot)), operation.combination()
    masks = {"all": torch.ones_like(train), "train": train, "test": ~train}
    means = combined_mean(snapshot.table(snapshot.readout(snapshot.last_mlp)), operation, dtype=torch.float64)
    own = _nats(snapshot.logit_table, answers)

    def part(names: list[str]) -> Parts:
        return irrep_projector(operation.group, names) @ means

    def by_split(losses: Tensor) -> list[float]:
        return [float(losses[masks[name]].mean()) for name in SPLITS]

    def pair(names: list[str]) -> tuple[list[float], list[float]]:
        if not names:
            return [np.nan] * 3, [np.nan] * 3
        kept, without = (edited_logits(snapshot, part(names), keep, keep_residual) for keep in (True, False))
        return by_split(_nats(kept, answers)), by_split(_nats(without, answers))

    restricted, excluded = pair(keys)
    each = np.array([pair([key]) for key in keys]).reshape(len(keys), 2, len(SPLITS))
    known = lookup_sums(train, answers, s, operation.order, float(own[train].mean()))
    lookup = by_split(_nats((irrep_projector(operation.group, keys) @ known)[s], answers)) if keys else [np.nan] * 3
    return {
        "pairs_loss": (("split",), by_split(own)),
        "restricted_loss_keys": (("split",), restricted),
        "excluded_loss_keys": (("split",), excluded),
        "restricted_loss_keys_lookup": (("split",), lookup),
        "restricted_loss_irrep": (("key_irrep", "split"), each[:, 0]),
        "excluded_loss_irrep": (("key_irrep", "split"), each[:, 1]),
    }


def edited_logits(snapshot: Snapshot, part: Parts, keep: bool, keep_residual: bool = True) -> Tensor:
    """Logits by group elements, [x, y, answer], when a part of the last neurons that depends on the product alone is kept or taken out.

    Args:
        snapshot: a model and its task.
        part: of each neuron, as a function of the product.
        keep: replace the neurons at the read-out position by the part, or subtract it from them.
        keep_residual: see `representations`.
    """
    adapter, operation, task = Adapter(snapshot.model), snapshot.operation, snapshot.task
    s = operation.combination()
    if adapter.neurons_add_to_logits:
        readers = adapter.neuron_logit_weights().cpu()[:, operation.token_of]
        change = (part @ readers)[s]
        if not keep and keep_residual:
            return snapshot.logit_table - change
        through = snapshot.table(snapshot.readout(snapshot.last_mlp)).double() @ readers
        if not keep:
            return through - change
        return change + (snapshot.logit_table - through if keep_residual else 0)
    if not keep_residual:
        raise GrokinterpError(
            f"what {type(snapshot.model).__name__} adds past its neurons cannot be told apart; leave keep_residual={keep_residual} out"
        )
    by_example = torch.zeros(len(task), part.shape[1], dtype=part.dtype)
    by_example[snapshot.table(torch.arange(len(task)))] = part[s]

    def edit(value: Tensor, hook: Any) -> Tensor:
        at = task.readout % value.shape[1]
        piece = by_example.to(value) if keep else value[:, at] - by_example.to(value)
        return placed(value, piece[:, None], at)

    # What is edited has to be the full table.
    logits = at_readout(snapshot.model, task.tokens, task.readout, edits=[(snapshot.last_mlp, edit)], batch_size=len(task))[OUTPUT]
    return snapshot.table(finite(logits[:, : task.n_classes], "the edited logits").double())[..., operation.token_of]


def _nats(logits: Tensor, answers: Tensor) -> Tensor:
    return cross_entropy(logits.flatten(0, 1), answers.flatten(), reduction="none").view(answers.shape)


def _reasons(dataset: xr.Dataset) -> dict[str, str | None]:
    """Why a variable holds NaN, for those that do."""
    reasons = {
        "logit_similarity": "the logits do not vary",
        "logit_irreps_fve": "the logits do not vary",
        **dict.fromkeys(("weight_irrep_share", "weight_key_share"), "a matrix that is zero has no power to share"),
        **dict.fromkeys(("neuron_irrep_share", "neuron_key_share", "neuron_fve"), "no neuron varies over the pairs"),
        "restricted_loss_keys_lookup": "training loss is 0 in float64, which no table of finite logits has",
    }
    if not dataset.sizes["key_irrep"]:
        reasons |= dict.fromkeys(("restricted_loss_keys", "excluded_loss_keys", "restricted_loss_keys_lookup"), "there are no key representations")
    return {name: reason for name, reason in reasons.items() if bool(dataset[name].isnull().any())}


def _keys(last: xr.Dataset) -> str:
    similarity = last["logit_similarity"]
    return ", ".join(f"{key} ({float(similarity.sel(irrep=key)):.3f})" for key in last["key_irrep"].values) or "none"


def _rule(last: xr.Dataset) -> str:
    # Reports that were kept before the rule had names hold neither.
    threshold, chance = (float(last[name]) if name in last else KEY for name in ("key_threshold", "chance_similarity"))
    below = f"; chance alone gives {chance:.3g} in {LEVEL:.0%} of models at most, the paper takes {KEY}" if chance > KEY else ""
    return f"logits resemble χ(abc⁻¹) by more than {threshold:.3g}{below}"


def _each_excluded(last: xr.Dataset) -> str:
    each = last["excluded_loss_irrep"].sel(split="train")
    return ", ".join(f"{key}: {float(value):.3g}" for key, value in zip(each["key_irrep"].values, each, strict=True)) or "no key"


MEASURE = Measure(
    representations,
    needs=(group, split, neurons),
    rows=(
        Row("key representations (similarity)", {"logit_similarity", "excluded_loss_irrep"}, _keys, _rule),
        row_of("share of the logits like χ(abc⁻¹)", "logit_irreps_fve", ".4f", "of their row-centred squared norm, all representations"),
        row_of("restricted loss of the keys, train / test / all", "restricted_loss_keys", ".4g", "only they kept in the neurons", split=SHOWN),
        row_of("… of a lookup table", "restricted_loss_keys_lookup", ".4g", "of the training pairs alone, with the model's loss", split=SHOWN),
        row_of("excluded loss of the keys, train / test", "excluded_loss_keys", ".4g", "they taken out of the neurons", split=("train", "test")),
        Row("excluded loss of one key, train", {"excluded_loss_irrep"}, _each_excluded, "one key representation taken out at a time"),
        row_of("W_a / W_b / W_U in the keys", "weight_key_share", ".4f", "of the squared norm", matrix=MATRICES),
        row_of("neurons in the keys, functions of a / b / ab", "neuron_key_share", ".4f", "of their variance over all pairs", part=PARTS),
    ),
    figures=(plots.representation_spectrum, plots.representation_losses),
)
