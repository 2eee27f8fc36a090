"""What hangs on a model: hooks of any sort, replaced methods, dropout in force; and a fingerprint that changes with these and with the weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules import module as torch_modules

from grokinterp.errors import GrokinterpError

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks", "_global_backward_pre_hooks")
_SAMPLE = 65_536  # entries of a tensor that its fingerprint sums; a write through `.data` leaves the version as it was (chosen here)

Fingerprint = tuple[Any, ...]


def in_force(hook_function: Any, module: Any, inputs: Any, output: Tensor) -> Tensor:
    """A forward hook of an intervention that is part of the model: it acts on every position by itself, so that fast paths stay exact under it."""
    result: Tensor = hook_function(output, hook=module)
    return result


def hanging(model: Any) -> list[str]:
    """Names of the modules on which something hangs that a fast path would miss or see differently: forward or backward hooks, a replaced forward.

    Interventions that are part of a model count where they do not treat every position by itself.
    """
    found = ["every module (a global hook of torch.nn)"] if any(getattr(torch_modules, name, None) for name in _GLOBAL) else []
    found += [f"{part} in force" for part in getattr(model, "interventions", ()) if not part.position_wise]
    for name, module in model.named_modules():
        foreign = any(not _ours(hook) for kind in _HOOKS if (hooks := getattr(module, kind, None)) for hook in hooks.values())
        if foreign or "forward" in vars(module):
            found.append(name or "the model itself")
    return found


def fingerprint(model: Any, buffers: bool = True) -> Fingerprint:
    """A value that changes when a hook is put on or taken off, a parameter or buffer is written or replaced, or the mode switches.

    Writes are seen through torch's version counters and storage addresses, and those through ``.data`` or NumPy, which count no version, through a
    sum over up to 65,536 entries of each tensor. What a hook closes over cannot be seen.

    Args:
        model: any module.
        buffers: whether buffers count; a pass may fill some.
    """
    hooks = [tuple(getattr(torch_modules, name, ())) for name in _GLOBAL]
    for i, module in enumerate(model.modules()):
        ids = tuple(key for kind in _HOOKS if (own := getattr(module, kind, None)) for key, hook in own.items() if not _ours(hook))
        if ids or "forward" in vars(module):
            hooks.append((i, *ids, id(vars(module).get("forward"))))
    tensors = [*model.parameters(), *(model.buffers() if buffers else ())]
    return (bool(model.training), tuple(hooks), tuple(seal(tensor, _SAMPLE) for tensor in tensors))


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def seal(tensor: Tensor, sample: int | None = None) -> Fingerprint:
    """What tells whether a tensor was written to: its address, its version, and the sum of its entries' bits as integers.

    A sum of floats would depend on how many threads add it up.

    Args:
        tensor: any.
        sample: sum about so many entries, evenly spaced; None for all.
    """
    flat = tensor.detach().flatten() if tensor.is_contiguous() else tensor.detach().reshape(-1)
    if sample is not None and len(flat) > sample:
        flat = flat[:: -(-len(flat) // sample)]
    entries = torch.view_as_real(flat) if flat.is_complex() else flat
    total = entries.view(_BITS[entries.element_size()]).sum(dtype=torch.int64)
    return (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version, int(total))


def refuse_dropout(model: Any) -> None:
    """Raise a GrokinterpError for a model in train mode whose dropout acts: two passes of it give two answers."""
    for name, module in model.named_modules():
        if not module.training:
            continue
        rate = float(getattr(module, "p", 0.0)) if isinstance(module, torch.nn.modules.dropout._DropoutNd) else 0.0
        functional = getattr(module, "attention_dropout", 0.0)
        if rate or (isinstance(functional, float) and functional):
            raise GrokinterpError(f"the model is in train mode and {name or 'it'} drops activations at random; call model.eval() first")


def _ours(hook: Any) -> bool:
    """Whether a hook is part of the model: an intervention in force, or what a TransformerBridge or transformers put up for themselves in a pass."""
    if isinstance(hook, partial):
        return hook.func is in_force
    return str(getattr(hook, "__module__", "")).startswith(("transformer_lens.model_bridge", "transformers.utils.output_capturing"))
