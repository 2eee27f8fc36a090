"""The papers' set-ups as run configurations: `presets.nanda2023(p=113, seed=0)`.

Each function returns a `RunConfig`; change what you like with ``.with_(...)`` before training it.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from grokinterp.errors import unknown_name
from grokinterp.group_presets import groups2023
from grokinterp.interventions import AttentionRate, CosineUnembed, FourierInit, InForce, PostNorm, Sphere, UniformAttention
from grokinterp.models.baseline_configs import Baselines, LSTMConfig, MambaConfig, MLPConfig
from grokinterp.models.transformers import ModelConfig
from grokinterp.tasks import TaskConfig
from grokinterp.training.config import CheckpointSchedule, RunConfig
from grokinterp.training.optimizers import AdamW

Normalization = Literal["post", "pre", "none"]
Size = Literal["small", "medium", "large"]
Stream = Literal["layer", "rms", "sphere"]
Architecture = Literal["mlp", "lstm", "mamba"]

ARCHITECTURES: dict[Architecture, Baselines] = {"mlp": MLPConfig(), "lstm": LSTMConfig(), "mamba": MambaConfig()}
_SIZES = {"small": (4, 8, 128), "medium": (6, 8, 512), "large": (12, 12, 768)}  # layers, heads, width


def nanda2023(p: int = 113, seed: int = 0, weight_decay: float = 1.0, train_fraction: float = 0.3, steps: int = 40_000) -> RunConfig:
    """The one-layer ReLU transformer of "Progress measures for grokking" (arXiv 2301.05217): full batch, no LayerNorm.

    Args:
        p: the modulus of the addition.
        seed: of the initial weights and of the split (the published random.seed shuffle).
        weight_decay: λ of AdamW.
        train_fraction: share of all p² pairs that is trained on.
        steps: updates at most (full batch, so steps are epochs).
    """
    return RunConfig(
        task=TaskConfig("modular_addition", {"p": p}, train_fraction, split_seed=seed, split_rule="python"),
        model=ModelConfig(n_layers=1, d_model=128, n_heads=4, d_mlp=512, act_fn="relu", biases=("mlp",), outputs="vocab", init="nanda2023"),
        optimizer=AdamW(lr=1e-3, weight_decay=weight_decay, betas=(0.9, 0.98), warmup_steps=10),
        steps=steps,
        seed=seed,
        eval_every=10,
        checkpoints=CheckpointSchedule(every=100, dense_every=10, dense_until=200),
    )


def fsd2026(p: int = 97, seed: int = 42, operation: str = "addition", n_layers: int = 2, weight_decay: float = 1.0, steps: int = 10_000) -> RunConfig:
    """The two-layer pre-LN transformer of "Circuit Synchronization Precedes Generalization" (arXiv 2606.12966).

    The paper leaves normalisation, positions, betas, warm-up and initialisation open; chosen here are pre-LN, learned positions, (0.9, 0.999),
    none, and PyTorch's default initialisation, which together meet the weight norms of its Table 5. HookedTransformer attends causally.

    Args:
        p: the modulus.
        seed: of the initial weights, the split and the minibatches.
        operation: "addition", "subtraction" or "multiplication".
        n_layers: 2 in the paper's main runs.
        weight_decay: λ of AdamW.
        steps: updates at most; the run ends 1,000 steps after test accuracy has reached 0.99 for good.
    """
    return RunConfig(
        task=TaskConfig(f"modular_{operation}", {"p": p}, train_fraction=0.3, split_seed=seed),
        model=ModelConfig(
            n_layers=n_layers, act_fn="gelu", normalization="pre", biases=("attn", "mlp", "unembed"), outputs="classes", init="pytorch"
        ),
        optimizer=AdamW(lr=1e-3, weight_decay=weight_decay, betas=(0.9, 0.999)),
        steps=steps,
        batch_size=512,
        seed=seed,
        eval_every=100,
        checkpoints=CheckpointSchedule(every=100),
        stop="test_accuracy >= 0.99 for 11",
    )


def cores2026_markov(seed: int = 0, normalization: Normalization = "post", lr: float = 1e-3, epochs: int = 40) -> RunConfig:
    """The one-layer transformer that learns a Markov chain in "Transformers converge to invariant algorithmic cores" (arXiv 2602.22600).

    Every position's next state counts in the loss. The paper's text has a learning rate of 1e-3, its code 1e-4 and dropout 0.1, which is
    left out here. Initialisation and betas are PyTorch's defaults (chosen here).

    Args:
        seed: of the initial weights and the minibatches (paper: 0, 100, 200); the sequences are the same for every seed.
        normalization: "post" as in the paper, "pre", or "none".
        lr: learning rate.
        epochs: over 3,000 sequences in batches of 64.
    """
    steps_an_epoch = 47  # ⌈3,000/64⌉
    return RunConfig(
        task=TaskConfig("markov_chain", {"n_sequences": 3_000, "length": 32, "seed": 0, "test_seed": 999}, 0.5, split_rule="first"),
        model=_encoder(1, normalization, d_model=64, d_mlp=256),
        optimizer=AdamW(lr=lr, weight_decay=0.0, betas=(0.9, 0.999)),
        steps=steps_an_epoch * epochs,
        batch_size=64,
        seed=seed,
        eval_every=5 * steps_an_epoch,
        checkpoints=CheckpointSchedule(every=10 * steps_an_epoch),
    )


def cores2026_modular(
    p: int = 53, seed: int = 0, normalization: Normalization = "post", weight_decay: float = 1.0, epochs: int = 20_000
) -> RunConfig:
    """The two-layer transformer that learns addition mod p in "Transformers converge to invariant algorithmic cores" (arXiv 2602.22600).

    The paper's code has dropout 0.1, which is left out here. Initialisation and betas are PyTorch's defaults (chosen here).

    Args:
        p: the modulus.
        seed: of the initial weights, the split and the minibatches.
        normalization: "post" as in the paper, "pre", or "none".
        weight_decay: λ of AdamW.
        epochs: over half of the p² pairs in batches of 512.
    """
    steps_an_epoch = math.ceil(p * p // 2 / 512)
    return RunConfig(
        task=TaskConfig("modular_addition", {"p": p, "equals": False}, train_fraction=0.5, split_seed=seed),
        model=_encoder(2, normalization),
        optimizer=AdamW(lr=1e-3, weight_decay=weight_decay, betas=(0.9, 0.999)),
        steps=steps_an_epoch * epochs,
        batch_size=512,
        seed=seed,
        eval_every=10 * steps_an_epoch,
        checkpoints=CheckpointSchedule(every=100 * steps_an_epoch),
    )


def cores2026_grokking_time(
    p: int = 53,
    weight_decay: float = 1.0,
    seed: int = 0,
    batch_size: int | None = 512,
    normalization: Normalization = "post",
    steps: int = 20_000,
    eval_every: int = 1,
) -> RunConfig:
    """The one-layer transformer whose grokking time is a law of λ and p in "Transformers converge to invariant algorithmic cores".

    Args:
        p: the modulus.
        weight_decay: λ of AdamW.
        seed: of the initial weights, the split and the minibatches.
        batch_size: 512 for the law in λ, None (full batch) for the law in p.
        normalization: "post", "pre", or "none"; the paper does not say, its other models are post-LN.
        steps: updates at most; the run ends when test accuracy reaches 0.99.
        eval_every: steps between evaluations, which is how exactly grokking is timed (paper: 1).
    """
    return RunConfig(
        task=TaskConfig("modular_addition", {"p": p, "equals": False}, train_fraction=0.5, split_seed=seed),
        model=_encoder(1, normalization),
        optimizer=AdamW(lr=1e-3, weight_decay=weight_decay, betas=(0.9, 0.999)),
        steps=steps,
        batch_size=batch_size,
        seed=seed,
        eval_every=eval_every,
        checkpoints=CheckpointSchedule(every=steps),
        stop="test_accuracy >= 0.99",
    )


def _encoder(n_layers: int, normalization: Normalization, d_model: int = 128, d_mlp: int = 512) -> ModelConfig:
    """A transformer encoder of arXiv 2602.22600: four heads, ReLU, biases everywhere, LayerNorm where the argument says."""
    return ModelConfig(
        n_layers=n_layers,
        d_model=d_model,
        n_heads=4,
        d_mlp=d_mlp,
        act_fn="relu",
        normalization="pre" if normalization == "pre" else "none",
        biases=("attn", "mlp", "unembed"),
        outputs="classes",
        init="pytorch",
        interventions=(PostNorm(),) if normalization == "post" else (),
    )


def weightdecay2026(
    size: Size = "small", operation: str = "addition", p: int = 97, seed: int = 42, weight_decay: float = 1.0, epochs: int = 5_000
) -> RunConfig:
    """The pre-LN transformer of "Weight Decay Regimes in Grokking Transformers" (arXiv 2605.20441), whose times are epochs.

    The operation of its main sweep is addition: at λ = 1 test accuracy stays near one half for 50 epochs, as it does for a model that has
    learned that a + b = b + a; division has no such plateau. The paper leaves open the horizon, betas, activation, mask and initialisation;
    chosen here are 5,000 epochs, (0.9, 0.999), GELU, causal, and PyTorch's default, which together meet the plateau.

    Args:
        size: "small" (4 layers of 128, 818,785 parameters at p = 97), "medium" (6 of 512, 19M) or "large" (12 of 768, 85M).
        operation: "addition", "subtraction", "multiplication" or "division"; the last leaves b = 0 out.
        p: the modulus.
        seed: of the initial weights, the split and the minibatches.
        weight_decay: λ of AdamW.
        epochs: over half of the pairs in batches of 512, 10 steps each at p = 97. Evaluated every 10 epochs; weights are kept every 10
            epochs up to 200, then every 100.

    Raises:
        GrokinterpError: an unknown size.
    """
    if size not in _SIZES:
        raise unknown_name("size", size, _SIZES)
    n_layers, n_heads, d_model = _SIZES[size]
    n_pairs = p * (p - 1) if operation == "division" else p * p
    steps_an_epoch = math.ceil(n_pairs // 2 / 512)
    return RunConfig(
        task=TaskConfig(f"modular_{operation}", {"p": p}, train_fraction=0.5, split_seed=seed),
        model=ModelConfig(
            n_layers=n_layers,
            d_model=d_model,
            n_heads=n_heads,
            d_mlp=4 * d_model,
            act_fn="gelu",
            normalization="pre",
            biases=("attn", "mlp", "unembed"),
            outputs="classes",
            init="pytorch",
        ),
        optimizer=AdamW(lr=1e-3, weight_decay=weight_decay, betas=(0.9, 0.999)),
        steps=steps_an_epoch * epochs,
        batch_size=512,
        seed=seed,
        eval_every=10 * steps_an_epoch,
        checkpoints=CheckpointSchedule(every=100 * steps_an_epoch, dense_every=10 * steps_an_epoch, dense_until=200 * steps_an_epoch),
    )


def weightdecay2026_baseline(
    architecture: Architecture = "lstm", p: int = 97, seed: int = 42, weight_decay: float = 0.05, epochs: int = 10_000
) -> RunConfig:
    """The classifiers without attention of "Weight Decay Regimes in Grokking Transformers" (arXiv 2605.20441), on addition.

    The inputs are the two operands alone. The λ of the paper's seven settings are not stated; those of its multi-task table, 0.003 to 0.07, fit the
    counts. Betas and batch order are as in `weightdecay2026`.

    Args:
        architecture: "mlp", "lstm" (7,680,640 parameters at p = 97) or "mamba" (957,952), 4 layers each.
        p: the modulus.
        seed: of the initial weights, the split and the minibatches.
        weight_decay: λ of AdamW.
        epochs: over half of the pairs in batches of 512, at most; the run ends when test accuracy reaches 0.99. Evaluated every 10 epochs.

    Raises:
        GrokinterpError: an unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise unknown_name("architecture", architecture, ARCHITECTURES)
    config = weightdecay2026("small", "addition", p, seed, weight_decay, epochs)
    task = TaskConfig("modular_addition", {"p": p, "equals": False}, train_fraction=0.5, split_seed=seed)
    return config.with_(task=task, model=ARCHITECTURES[architecture], stop="test_accuracy >= 0.99")


def geometric2026(
    arm: Stream = "sphere",
    p: int = 113,
    seed: int = 1,
    weight_decay: float = 1.0,
    lr: float = 6e-4,
    beta2: float = 0.999,
    operation: str = "addition",
    cosine_unembed: bool | None = None,
    temperature: float = 10.0,
    fourier: bool = False,
    uniform_attention: bool = False,
    steps: int = 100_000,
) -> RunConfig:
    """The one-layer transformer with a normalised residual stream of "The Geometric Inductive Bias of Grokking" (arXiv 2603.05228).

    Full batch, no causal mask, MLP biases alone, PyTorch's initialisation; decay on every parameter. One logit a residue is chosen here.

    Args:
        arm: what normalises the residual stream after token plus position and after each addition: "layer" or "rms" (post-norm, affine), or
            "sphere" (L2, without weights).
        p: the modulus.
        seed: of the initial weights and of the split.
        weight_decay: λ of AdamW; the paper has no baseline at 0.
        lr: 6e-4 or 1e-4 in the paper.
        beta2: of AdamW; the paper's runs with uniform attention have 0.98, all others 0.999.
        operation: "addition", "subtraction" or "multiplication".
        cosine_unembed: logits are temperature · h · w/‖w‖ instead of h · w; None for as in the paper, "sphere" with and the others without in
            addition, all with in multiplication. Three of its published notebooks have the sphere at λ = 1 without.
        temperature: of such logits. The paper states 10 for the sphere; for the baselines in multiplication the same is chosen here.
        fourier: begin with waves of the frequencies 14, 35, 41, 42 and 52 in the embedding, of amplitude 1 (chosen here).
        uniform_attention: every position attends to all three alike.
        steps: updates at most (full batch, so steps are epochs); the run ends when test accuracy has been above 0.95 at two evaluations in a row.
            Evaluated every 10 epochs (paper: 200).

    Raises:
        GrokinterpError: an unknown arm.
    """
    cosine = (arm == "sphere" or operation == "multiplication") if cosine_unembed is None else cosine_unembed
    return RunConfig(
        task=TaskConfig(f"modular_{operation}", {"p": p}, train_fraction=0.3, split_seed=seed),
        model=_normalised(arm, temperature if cosine else None, fourier, uniform_attention),
        optimizer=AdamW(lr=lr, weight_decay=weight_decay, betas=(0.9, beta2)),
        steps=steps,
        seed=seed,
        eval_every=10,
        checkpoints=CheckpointSchedule(every=1_000),
        stop="test_accuracy > 0.95 for 2",
    )


def geometric2026_s5(
    arm: Stream = "sphere",
    seed: int = 1,
    weight_decay: float = 1.0,
    lr: float = 1e-3,
    temperature: float = 10.0,
    uniform_attention: bool = False,
    steps: int = 100_000,
) -> RunConfig:
    """The same model on composition in S5 (120 elements, 14,400 products, 30 % to train on), the negative control of arXiv 2603.05228.

    Args:
        arm: as in `geometric2026`; "sphere" has the cosine unembedding.
        seed: of the initial weights and of the split.
        weight_decay: λ of AdamW.
        lr: the paper ran one, 1e-3.
        temperature: of the sphere's logits; the paper ran one, 10.
        uniform_attention: every position attends to all three alike, with a β2 of 0.98 as in the paper instead of 0.999.
        steps: updates at most, which are epochs; the run ends when test accuracy has been 0.99 or more at two evaluations in a row.

    Raises:
        GrokinterpError: an unknown arm.
    """
    config = geometric2026(arm, seed=seed, weight_decay=weight_decay, lr=lr, beta2=0.98 if uniform_attention else 0.999, steps=steps)
    return config.with_(
        task=TaskConfig("permutations", {"n": 5}, train_fraction=0.3, split_seed=seed),
        model=_normalised(arm, temperature if arm == "sphere" else None, uniform=uniform_attention),
        stop="test_accuracy >= 0.99 for 2",
    )


def _normalised(arm: Stream, temperature: float | None, fourier: bool = False, uniform: bool = False) -> ModelConfig:
    """The transformer of arXiv 2603.05228; a temperature stands for the cosine unembedding."""
    if arm not in get_args(Stream):
        raise unknown_name("arm", arm, get_args(Stream))
    interventions: list[InForce] = [Sphere() if arm == "sphere" else PostNorm(arm, at_embedding=True)]
    interventions += [CosineUnembed(temperature)] if temperature is not None else []
    interventions += [FourierInit()] if fourier else []
    interventions += [UniformAttention()] if uniform else []
    return ModelConfig(causal=False, biases=("mlp",), outputs="classes", init="pytorch", interventions=tuple(interventions))


def pizza2023(alpha: float = 1.0, p: int = 59, d_model: int = 128, seed: int = 0, steps: int = 20_000) -> RunConfig:
    """The one-layer transformer of "The Clock and the Pizza" (arXiv 2306.17844), with attention of any strength: full batch, no ``=`` token.

    Attention sees both operands, the logits are those at the second, and only the MLP has biases. The split is drawn from the seed: the published
    one has none.

    Args:
        alpha: the attention rate, from 0 for constant attention to 1 for ordinary attention, see `AttentionRate`.
        p: the modulus of the addition.
        d_model: the width; 128, or 32 to 512 in the paper's sweep over widths. The MLP is four times as wide.
        seed: of the initial weights and of the split.
        steps: updates (full batch, so steps are epochs).
    """
    rate = (AttentionRate(alpha),)
    return RunConfig(
        task=TaskConfig("modular_addition", {"p": p, "equals": False}, train_fraction=0.8, split_seed=seed),
        model=ModelConfig(d_model=d_model, d_head=d_model // 4, d_mlp=4 * d_model, causal=False, init="pizza2023", interventions=rate),
        optimizer=AdamW(lr=1e-3, weight_decay=2.0, betas=(0.9, 0.98), warmup_steps=10),
        steps=steps,
        seed=seed,
        eval_every=50,
        checkpoints=CheckpointSchedule(every=200),
    )


def demo(seed: int = 0) -> RunConfig:
    """A set-up that groks within a minute or so on two cores: `nanda2023` at p = 53 with half of the pairs (chosen here).

    Args:
        seed: of the initial weights and of the split.
    """
    return nanda2023(p=53, seed=seed, train_fraction=0.5, steps=5_000).with_(stop="test_loss < 1e-3")


PRESETS = {
    preset.__name__: preset
    for preset in (
        nanda2023,
        fsd2026,
        cores2026_markov,
        cores2026_modular,
        cores2026_grokking_time,
        weightdecay2026,
        weightdecay2026_baseline,
        geometric2026,
        geometric2026_s5,
        pizza2023,
        groups2023,
        demo,
    )
}
