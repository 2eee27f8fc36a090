"""Other architectures: published sizes, plain-loop and torch references, hooks, training, and the measures that apply to them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from grokinterp import GrokinterpError, RunConfig, TaskConfig, ace, analyze, presets, tasks
from grokinterp.interventions import FourierAblation
from grokinterp.measures.fsd import filtered_loss, fsd, signals
from grokinterp.measures.heads import heads
from grokinterp.measures.progress import progress
from grokinterp.models import LSTMConfig, MambaConfig, MLPConfig, build_model, trained_parameters
from grokinterp.models.adapter import Adapter
from grokinterp.models.scan import _by_pairs, _by_states, selective_scan
from grokinterp.snapshot import Snapshot
from grokinterp.training.config import CheckpointSchedule
from grokinterp.training.engine.engine import Engine, why_not
from grokinterp.training.optimizers import AdamW
from grokinterp.training.train import train

pytestmark = pytest.mark.lens4

SMALL = {
    "mlp": MLPConfig(n_layers=2, d_model=16, d_hidden=64),
    "lstm": LSTMConfig(n_layers=2, d_model=16, d_hidden=32),
    "mamba": MambaConfig(n_layers=2, d_model=16, expand=2, d_state=4, dt_rank=2),
}
KINDS = pytest.mark.parametrize("kind", SMALL)


def small(kind: str, equals: bool = True, seed: int = 0):
    task = tasks.modular_addition(7, equals).split(0.6, seed=0)
    return build_model(SMALL[kind], task, seed, dtype=torch.float64), task


# --- What they compute ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("config", "parameters"), [(LSTMConfig(), 7_680_640), (MambaConfig(), 957_952)])
def test_sizes_are_the_papers(config, parameters: int) -> None:
    model = build_model(config, tasks.modular_addition(97, equals=False), seed=0)
    assert sum(weight.numel() for weight in trained_parameters(model).values()) == parameters
    assert model.W_U.shape[1] == 97


def test_size_of_the_mlp() -> None:
    """97 embeddings of 128, four layers of 512 over 256 inputs, and the unembedding."""
    model = build_model(MLPConfig(), tasks.modular_addition(97, equals=False), seed=0)
    expected = 97 * 128 + (256 * 512 + 512) + 3 * (512 * 512 + 512) + 512 * 97
    assert sum(weight.numel() for weight in trained_parameters(model).values()) == expected


def test_lstm_is_torchs() -> None:
    model, task = small("lstm")
    ours, reference = model.blocks, torch.nn.LSTM(16, 32, num_layers=2, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for i, layer in enumerate(ours):
            for name, weight in (("weight_ih", layer.W_in.T), ("weight_hh", layer.W_h.T), ("bias_ih", layer.b_in), ("bias_hh", layer.b_h)):
                getattr(reference, f"{name}_l{i}").copy_(weight)
        expected, _ = reference(model.embed(task.tokens))
        _, cache = model.run_with_cache(task.tokens)
    assert torch.allclose(cache["blocks.1.hook_hidden"], expected, atol=1e-12)
    assert torch.allclose(model(task.tokens), expected @ model.W_U, atol=1e-12)


def scan_inputs(positions: int, seed: int = 0, examples: int = 2, channels: int = 3, states: int = 4) -> list[torch.Tensor]:
    """u, Δ, A, B and C in float64, all of which ask for gradients."""
    g = torch.Generator().manual_seed(seed)
    shapes = [(examples, positions, channels)] * 2 + [(channels, states)] + [(examples, positions, states)] * 2
    u, delta, a, b, c = (torch.randn(*shape, generator=g, dtype=torch.float64) for shape in shapes)
    return [value.requires_grad_() for value in (u, delta.exp(), -a.exp(), b, c)]


def plain_scan(u, delta, a, b, c):
    """The recurrence one number at a time."""
    outputs = torch.zeros(u.shape, dtype=u.dtype)
    for example in range(u.shape[0]):
        for channel in range(u.shape[2]):
            h = [torch.zeros((), dtype=u.dtype)] * a.shape[1]
            for t in range(u.shape[1]):
                decay = [torch.exp(delta[example, t, channel] * a[channel, n]) for n in range(len(h))]
                h = [decay[n] * h[n] + b[example, t, n] * u[example, t, channel] for n in range(len(h))]
                outputs[example, t, channel] = sum(c[example, t, n] * h[n] for n in range(len(h)))
    return outputs


@pytest.mark.parametrize("positions", [1, 2, 3, 6])
def test_scan_and_its_gradient_are_those_of_a_plain_loop(positions: int) -> None:
    inputs = scan_inputs(positions)
    weights = torch.randn(2, positions, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = plain_scan(*inputs)
    gradients = torch.autograd.grad((expected * weights).sum(), inputs, allow_unused=True, materialize_grads=True)
    u, delta, a, b, c = inputs
    for ours in (selective_scan(*inputs), _by_pairs(u, delta, a.T, b, c), _by_states(u, delta, a.T, b, c)):
        assert torch.allclose(ours, expected, rtol=1e-12, atol=1e-12)
        own = torch.autograd.grad((ours * weights).sum(), inputs, allow_unused=True, materialize_grads=True)
        for gradient, right in zip(own, gradients, strict=True):
            assert torch.allclose(gradient, right, rtol=1e-11, atol=1e-11)


def test_scan_has_the_gradient_of_finite_differences() -> None:
    assert torch.autograd.gradcheck(selective_scan, scan_inputs(3, seed=2))


def test_mamba_block_is_the_published_figure() -> None:
    """With torch's own depthwise convolution, and the scan as a loop."""
    model, task = small("mamba")
    block, f = model.blocks[0], torch.nn.functional
    with torch.no_grad():
        block.D.normal_()
        x = model.embed(task.tokens[:5])
        u, z = (f.layer_norm(x, (16,)) @ block.W_in).chunk(2, -1)
        kernel = block.W_conv.flip(0).T[:, None]  # torch's last tap is the present position
        u = f.silu(f.conv1d(f.pad(u.mT, (3, 0)), kernel, block.b_conv, groups=32).mT)
        rank, b, c = (u @ block.W_select).split([2, 4, 4], -1)
        delta = f.softplus(rank @ block.W_delta + block.b_delta)
        y = plain_scan(delta * u, delta, -block.A_log.exp(), b, c) + block.D * u
        expected = x + (y * f.silu(z)) @ block.W_out
        assert torch.allclose(block(x), expected, atol=1e-12)


def test_mamba_starts_as_its_reference_does() -> None:
    block = build_model(MambaConfig(), tasks.modular_addition(7), seed=0).blocks[0]
    step = torch.nn.functional.softplus(block.b_delta).detach()
    assert 1e-3 <= float(step.min()) < 2e-3
    assert 5e-2 < float(step.max()) <= 0.1
    assert torch.allclose(block.A_log.exp(), torch.arange(1.0, 17).expand(512, 16))
    assert float(block.W_delta.detach().abs().max()) == pytest.approx(8**-0.5, rel=0.01)


@pytest.mark.parametrize("kind", ["lstm", "mamba"])
def test_sequences_are_read_forwards(kind: str) -> None:
    model, task = small(kind)
    changed = task.tokens.clone()
    changed[:, 2] = 0
    with torch.no_grad():
        before, after = model(task.tokens), model(changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert not torch.allclose(before[:, 2], after[:, 2])


def test_mean_pooling_is_blind_to_order_and_concatenation_is_not() -> None:
    task = tasks.modular_addition(7, equals=False)
    swapped = task.tokens.flip(1)
    for inputs, blind in (("mean", True), ("concatenated", False)):
        model = build_model(MLPConfig(n_layers=1, d_model=8, d_hidden=16, inputs=inputs), task, seed=0, dtype=torch.float64)
        with torch.no_grad():
            assert torch.allclose(model(task.tokens), model(swapped), atol=1e-12) == blind


# --- Hooks and measures --------------------------------------------------------------------------------------------------------------


@KINDS
def test_edits_at_every_hook_reach_the_logits(kind: str) -> None:
    model, task = small(kind)
    with torch.no_grad():
        plain = model(task.tokens)
        for name in model.hook_dict:
            edited = model.run_with_hooks(task.tokens, fwd_hooks=[(name, lambda value, hook: value * 0.5)])
            assert not torch.allclose(edited[:, -1], plain[:, -1], atol=1e-9), name
            assert torch.equal(model(task.tokens), plain)


@KINDS
def test_stopping_at_a_layer_gives_what_it_sees(kind: str) -> None:
    model, task = small(kind)
    with torch.no_grad():
        logits, cache = model.run_with_cache(task.tokens)
        assert torch.equal(model.blocks[1](model(task.tokens, stop_at_layer=1)), model(task.tokens, stop_at_layer=2))
        assert torch.equal(model.ln_final(model(task.tokens, stop_at_layer=2)), cache["unembed.hook_in"])
    assert logits.shape == (49, 1 if kind == "mlp" else 3, 8)


@KINDS
def test_snapshots_read_neurons_at_the_readout(kind: str) -> None:
    model, task = small(kind)
    snapshot = Snapshot(model, task)
    with torch.no_grad():
        logits, cache = model.run_with_cache(task.tokens)
    assert torch.equal(snapshot.logits, logits[:, -1, :7])
    names = Adapter(model).neuron_hooks()
    assert snapshot.last_mlp == names[-1] == f"blocks.1.{'hook_hidden' if kind == 'lstm' else 'hook_post'}"
    for name in names:
        assert torch.equal(snapshot.readout(name), cache[name][:, -1])
    sums = task.answers
    expected = torch.stack([cache[names[0]][:, -1][sums == c].mean(0) for c in range(7)])
    assert torch.allclose(signals(snapshot), expected, atol=1e-12)
    assert 0 <= float(fsd(snapshot)["fsd"].sel(top=1)) <= 1


@KINDS
def test_neurons_act_on_the_logits_as_the_map_says(kind: str) -> None:
    """Before a final LayerNorm: the last layer's neurons, moved a little, move what is unembedded linearly."""
    model, task = small(kind)
    model.ln_final = torch.nn.Identity()
    step = torch.randn(Adapter(model).neuron_logit_weights().shape[0], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        moved = model.run_with_hooks(task.tokens, fwd_hooks=[(Adapter(model).neuron_hooks()[-1], lambda value, hook: value + step)])
        change = moved - model(task.tokens)
    assert torch.allclose(change, (step @ Adapter(model).neuron_logit_weights()).expand_as(change), atol=1e-12)


@KINDS
def test_cores_are_extracted_from_probes(kind: str) -> None:
    model, task = small(kind)
    core = ace.extract(model, task, hook=Adapter(model).neuron_hooks()[0], rank=2)
    assert core.basis.shape[1] == 2


# --- Training ------------------------------------------------------------------------------------------------------------------------


def config_of(kind: str, steps: int = 150, **changes) -> RunConfig:
    return RunConfig(
        task=TaskConfig("modular_addition", {"p": 7, "equals": False}, train_fraction=0.7),
        model=SMALL[kind],
        optimizer=AdamW(lr=5e-3, weight_decay=0.01, betas=(0.9, 0.98)),
        steps=steps,
        eval_every=10,
        checkpoints=CheckpointSchedule(every=50),
    ).with_(**changes)


@KINDS
def test_probes_learn_modular_addition(kind: str, tmp_path) -> None:
    run = train(config_of(kind), tmp_path / "run", progress_bar=False)
    metrics = run.metrics
    assert metrics["train_loss"].iloc[0] > 0.8 * np.log(7)
    assert metrics["train_loss"].iloc[-1] < 0.1 * np.log(7)
    assert metrics["train_accuracy"].iloc[-1] == 1
    assert run.provenance["computed"][0]["path"] == "module"
    squares = sum(float(weight.detach().double().square().sum()) for weight in run.model().parameters())
    assert metrics["weight_norm"].iloc[-1] == pytest.approx(squares**0.5, rel=1e-6)
    assert analyze(run, ["fsd"], progress_bar=False)["fsd"].sizes["step"] == 4


@KINDS
@pytest.mark.parametrize("batch_size", [None, 16])
def test_same_config_same_bits_killed_or_not(kind: str, batch_size: int | None, tmp_path) -> None:
    whole = train(config_of(kind, steps=20, batch_size=batch_size, checkpoints={"every": 10}), tmp_path / "whole", progress_bar=False)
    cut = tmp_path / "cut"
    train(config_of(kind, steps=20, batch_size=batch_size, checkpoints={"every": 10}), cut, progress_bar=False)
    for name in ("status.json", "checkpoints/step_00000020.safetensors", "moments/step_00000020.safetensors"):
        (cut / name).unlink()  # as if the process had died before its last checkpoint
    again = train(whole.config, cut, progress_bar=False)
    assert again.metrics.equals(whole.metrics)
    for name, weight in whole.weights().items():
        assert torch.equal(again.weights()[name], weight), name


@KINDS
def test_configs_survive_json(kind: str) -> None:
    config = config_of(kind, **{"model.n_layers": 3})
    values = json.loads(json.dumps(config.to_dict()))
    assert values["model"]["kind"] == kind
    assert RunConfig.from_dict(values) == config
    assert RunConfig.from_dict(values).digest == config.digest != config_of(kind).digest


def test_transformers_have_no_kind_so_that_their_digests_stay() -> None:
    assert "kind" not in presets.nanda2023().to_dict()["model"]
    assert presets.nanda2023().digest == "6df8d10fd944"


def test_the_engine_leaves_probes_to_the_module() -> None:
    config = config_of("lstm")
    assert "kind 'lstm'" in str(why_not([config]))
    with pytest.raises(GrokinterpError, match="kind 'lstm'"):
        Engine([config], [config.task.build()])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MLPConfig(d_hidden=0), "d_hidden must be at least 1; got 0"),
        (lambda: MLPConfig(inputs="max"), "unknown inputs 'max'"),
        (lambda: LSTMConfig(outputs="class"), "did you mean classes"),
        (lambda: RunConfig.from_dict({"model": {"kind": "mambo"}}), "unknown kind in config.model: 'mambo'; did you mean mamba"),
        (lambda: RunConfig.from_dict({"model": {"kind": "lstm", "d_state": 3}}), "unknown key in config.model: 'd_state'"),
        (lambda: RunConfig.from_dict({"model": {"kind": "mamba", "d_state": "many"}}), "config.model.d_state must be int"),
        (lambda: config_of("mlp", **{"model.n_heads": 2}), "unknown config field 'n_heads'"),
    ],
)
def test_bad_values_are_named(call, message) -> None:
    with pytest.raises(GrokinterpError, match=message):
        call()


@KINDS
def test_progress_measures_read_probes(kind: str) -> None:
    model, task = small(kind)
    snapshot = Snapshot(model, task)
    measured = progress(snapshot, frequencies=(1, 2))
    loss = torch.nn.functional.cross_entropy(snapshot.outputs, task.answers).item()
    assert float(measured["loss"].sel(split="all")) == pytest.approx(loss)
    w_l = Adapter(model).neuron_logit_weights()[:, :7]
    squares = (w_l - w_l.mean(1, keepdim=True)).square().sum().item()
    assert float((measured["W_L_norm"] ** 2).sum()) == pytest.approx(squares)
    assert measured["neuron_share"].sizes["neuron"] == len(w_l)
    assert float(measured["sum_of_squares"]) == pytest.approx(sum(float(w.detach().square().sum()) for w in model.parameters()))
    with pytest.raises(GrokinterpError, match="this model has none"):
        heads(snapshot)


@KINDS
def test_neurons_of_probes_are_filtered(kind: str) -> None:
    """To 7 frequencies or as many as there are: of each neuron over pairs what an FFT has at (0 or ±k, 0 or ±k) for one k stays."""
    model, task = small(kind)
    snapshot = Snapshot(model, task)
    spectrum = np.fft.fft2(snapshot.table(snapshot.readout(snapshot.last_mlp)).numpy(), axes=(0, 1))
    k = np.minimum(np.arange(7), 7 - np.arange(7))
    spectrum[(k[:, None] != k) & (k[:, None] > 0) & (k > 0)] = 0
    filtered = torch.from_numpy(np.fft.ifft2(spectrum, axes=(0, 1)).real).flatten(0, 1)

    def replace(value: torch.Tensor, hook) -> torch.Tensor:
        value = value.clone()
        value[:, -1] = filtered
        return value

    with torch.no_grad():
        logits = model.run_with_hooks(task.tokens, fwd_hooks=[(snapshot.last_mlp, replace)])[:, -1, :7]
    loss = torch.nn.functional.cross_entropy(logits, task.answers).item()
    assert float(filtered_loss(snapshot)["filtered_loss"]) == pytest.approx(loss, rel=1e-10)
    with torch.no_grad(), FourierAblation("embed", (1, 2, 3), "keep").applied(model, task):
        assert torch.allclose(model(task.tokens)[:, -1, :7], snapshot.logits, atol=1e-9)
