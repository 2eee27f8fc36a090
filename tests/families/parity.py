"""How far a loaded model is from transformers' own, in each thing that the package asks of it.

The reference never goes through TransformerLens: what it computes between its layers is read, and changed, by hooks of torch on its modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from families.models import TOKENIZER, random_tokens
from grokinterp.ace import Core, generate
from grokinterp.ace.core import Project
from grokinterp.models.adapter import Adapter
from grokinterp.models.last_token import last_tokens
from grokinterp.models.tail import Tail

_WRITERS = ("c_proj", "dense_4h_to_h", "down_proj", "fc2", "fc_out", "w2")  # what an MLP's last map is called

Read = Callable[[Any, Any, Tensor], float]


def differences(model: Any, reference: Any) -> dict[str, float]:
    """The largest difference between a loaded model and transformers' own, by what is compared."""
    tokens = random_tokens()
    return {what: compared(model, reference, tokens) for what, compared in COMPARED.items()}


def logits(model: Any, reference: Any, tokens: Tensor) -> float:
    with torch.no_grad():
        wanted = reference(tokens).logits
        assert float(wanted.std()) > 0.3  # else anything would be close
        return _largest([model(tokens)], [wanted])


def residual_stream(model: Any, reference: Any, tokens: Tensor) -> float:
    """Before the first block and behind each, the last too, which transformers shows behind the final norm alone."""
    with torch.no_grad(), _layers_seen(reference) as seen:
        reference(tokens)
        cache = model.run_with_cache(tokens)[1]
    return _largest([cache[hook] for hook in Adapter(model).residual_hooks()], [seen[0][0], *(out for _, out in seen)])


def pattern(model: Any, reference: Any, tokens: Tensor) -> float:
    with torch.no_grad():
        cache = model.run_with_cache(tokens)[1]
        wanted = reference(tokens, output_attentions=True).attentions
    return _largest([cache[f"blocks.{layer}.attn.hook_pattern"] for layer in range(len(wanted))], wanted)


def neurons(model: Any, reference: Any, tokens: Tensor) -> float:
    """What the last map of each MLP reads; a mixture of experts has none here."""
    if not Adapter(model).neuron_hooks():
        return 0.0
    read: list[Tensor] = []
    writers = [m for name, m in reference.named_modules() if name.endswith(_WRITERS) and "attn" not in name and "attention" not in name]
    handles = [writer.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].reshape(*tokens.shape, -1))) for writer in writers]
    with torch.no_grad():
        reference(tokens)
        cache = model.run_with_cache(tokens)[1]
    for handle in handles:
        handle.remove()
    return _largest([cache[hook] for hook in Adapter(model).neuron_hooks()], read)


def sweep(model: Any, reference: Any, tokens: Tensor) -> float:
    """Logits behind the last token, clean and with a core flipped there before each block and behind the last."""
    hooks = Adapter(model).residual_hooks()
    edits = [_core(hook).flip() for hook in hooks]
    ends = torch.full((len(tokens),), tokens.shape[1] - 1)
    ((_, reader),) = last_tokens(model, tokens, ends, hooks, len(tokens))
    found = reader.logits(edits)
    layers = _layers(reference)
    with torch.no_grad():
        wanted = [reference(tokens).logits[:, -1]]
        for i, edit in enumerate(edits):
            handle = _behind(layers[i - 1], edit) if i else _before(layers[0], edit)
            wanted.append(reference(tokens).logits[:, -1])
            handle.remove()
    return _largest(list(found), wanted)


def generation(model: Any, reference: Any, tokens: Tensor) -> float:
    """Probabilities of verbs beside text that is flipped with keys and values at hand, and pass by pass; infinite where the tokens differ."""
    core = _core("blocks.1.hook_resid_post")
    cached, passes = (generate(model, "The key", core, strength=1.0, n_tokens=5, cached=cached, tokenizer=TOKENIZER) for cached in (True, False))
    if (cached.clean_tokens, cached.edited_tokens) != (passes.clean_tokens, passes.edited_tokens):
        return float("inf")
    return _largest(*([torch.tensor(list(text.probabilities.values()))] for text in (cached, passes)))


def gradient(model: Any, reference: Any, tokens: Tensor) -> float:
    """Of the logits of two tokens behind the last position, at the residual stream there before each block."""
    found = []
    for layer in range(Adapter(model).n_layers):
        h, f = Tail(model, f"blocks.{layer}.hook_resid_pre", positions=-1).resume(tokens)
        out = f(h.requires_grad_())
        found.append(torch.autograd.grad((out[:, 2] - out[:, 3]).sum(), h)[0][:, 0])
    with _layers_seen(reference) as seen:
        out = reference(tokens).logits[:, -1]
    slopes = torch.autograd.grad((out[:, 2] - out[:, 3]).sum(), [entry for entry, _ in seen])
    return _largest(found, [slope[:, -1] for slope in slopes])


COMPARED: Mapping[str, Read] = {
    "logits": logits,
    "residual stream": residual_stream,
    "pattern": pattern,
    "neurons": neurons,
    "sweep, full passes": sweep,
    "generation, cached and not": generation,
    "gradient": gradient,
}


def _largest(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted):
        assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return max(float((ours - theirs).abs().max()) for ours, theirs in zip(found, wanted))


def _layers(reference: Any) -> nn.ModuleList:
    """The decoder layers of a model of transformers."""
    n = reference.config.num_hidden_layers
    return next(module for module in reference.modules() if isinstance(module, nn.ModuleList) and len(module) == n)


@contextmanager
def _layers_seen(reference: Any) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """What each layer reads and gives in a pass."""
    seen: list[tuple[Tensor, Tensor]] = []
    handles = [layer.register_forward_hook(lambda module, args, out: seen.append((args[0], _tensor(out)))) for layer in _layers(reference)]
    yield seen
    for handle in handles:
        handle.remove()


def _before(layer: nn.Module, edit: Project) -> RemovableHandle:
    return layer.register_forward_pre_hook(lambda module, args: (_at_last(args[0], edit), *args[1:]))


def _behind(layer: nn.Module, edit: Project) -> RemovableHandle:
    def change(module: nn.Module, args: Any, out: Any) -> Any:
        return (_at_last(out[0], edit), *out[1:]) if isinstance(out, tuple) else _at_last(out, edit)

    return layer.register_forward_hook(change)


def _tensor(out: Any) -> Tensor:
    return out[0] if isinstance(out, tuple) else out


def _at_last(stream: Tensor, edit: Project) -> Tensor:
    return torch.cat([stream[:, :-1], edit(stream[:, -1:])], dim=1)


def _core(hook: str) -> Core:
    """Two directions drawn at random, and a mean that is not 0."""
    generator = torch.Generator().manual_seed(5)
    directions = torch.linalg.qr(torch.randn(16, 2, generator=generator, dtype=torch.float64)).Q
    mean = torch.randn(16, generator=generator, dtype=torch.float64)
    return Core(directions=directions, rank=2, spectrum=torch.ones(2).double(), mean=mean, hook=hook, centred=True)
