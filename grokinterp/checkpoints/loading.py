"""`load_checkpoint`: other people's toy checkpoints, whatever their layout, as a subject of `analyze`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from grokinterp.checkpoints.checkpoint import Checkpoint
from grokinterp.checkpoints.elsewhere import elsewhere
from grokinterp.checkpoints.lens import Lens
from grokinterp.checkpoints.opening import Opened, opened
from grokinterp.checkpoints.reader import Facts, Reader, State
from grokinterp.checkpoints.torch_layouts import Encoder, MinGPT, NanoGPT
from grokinterp.checkpoints.transposed import Nanda2023, Pizza2023, PizzaLinear2023
from grokinterp.errors import GrokinterpError, os_errors_explained, unknown_name
from grokinterp.models.adapter import Adapter, index_of, is_model
from grokinterp.models.layouts import without_wrappers
from grokinterp.models.readout import OUTPUT, at_readout
from grokinterp.tasks import Task, TaskConfig

if TYPE_CHECKING:
    from grokinterp.tasks import Prompts

READERS: dict[str, Reader] = {
    "HookedTransformer": Lens(),
    "nanda2023": Nanda2023(),
    "pizza2023": Pizza2023(),
    "pizza2023_linear": PizzaLinear2023(),
    "nanoGPT": NanoGPT(),
    "minGPT": MinGPT(),
    "TransformerEncoder": Encoder(),
}
"""The layouts that `load_checkpoint` knows; put a reader of your own in."""

_NESTED = 2  # modules of a training script around the model (chosen here)
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 3e-3}  # of the largest logit (chosen here)


@os_errors_explained()
def load_checkpoint(
    source: str | Path | Mapping[Any, Any],
    task: Task | TaskConfig | Prompts | None = None,
    *,
    reader: str | Reader | None = None,
    check: Callable[[Tensor], Tensor] | None = None,
    dtype: torch.dtype | None = None,
    **facts: Any,
) -> Checkpoint:
    """Read other people's toy transformers: sizes follow from the weights' shapes, and what they do not tell is asked for by name.

    Files are opened with ``weights_only=True``, so nothing in them can run.

    Args:
        source: a file, a folder with one file or with one a step, a state dict, a dictionary that holds one, or any of these by step.
        task: what it was trained on, with its split; None where the checkpoint states it.
        reader: the layout, by its name in `READERS`, or a reader of your own; None for the one that recognises the weights.
        check: your model, a function of tokens [example, position] that returns logits [example, position, output] or [example, output]; what
            is read has to agree with it at the read-out position of every example, at the last step.
        dtype: of the model, torch.float32 or torch.float64; None for that of the weights, half precision widened to float32.
        facts: what the weights do not tell, like ``n_heads=4, act_fn="relu", causal=True``.

    Raises:
        GrokinterpError: a file that is missing, cut short or could run code; a layout that no reader, or several, recognise; a fact or a task that
            nobody states; weights that do not fit together; logits that differ from `check`.
    """
    if task is not None and not isinstance(task, Task | TaskConfig):
        raise GrokinterpError(f"a toy checkpoint is read on a task; got a {type(task).__name__}, which is for a language model")
    if dtype not in (None, torch.float32, torch.float64):
        raise GrokinterpError(f"a toy model is read as torch.float32 or torch.float64; got dtype={dtype}")
    return read_opened(opened(source), task, reader, check, dtype, facts, check_record=task is None and not facts)[0]


def read_opened(
    found: Opened,
    task: Task | TaskConfig | None = None,
    reader: str | Reader | None = None,
    check: Callable[[Tensor], Tensor] | None = None,
    dtype: torch.dtype | None = None,
    facts: Mapping[str, Any] = MappingProxyType({}),
    *,
    check_record: bool = True,
) -> tuple[Checkpoint, Any]:
    """A checkpoint of what was opened, and the model of its last step; arguments and errors are those of `load_checkpoint`.

    With `check_record` the model has to agree with what was recorded while it was trained, see `Reader.check_record`.
    """
    states = {step: _unwrapped(state, found.config) for step, state in found.states.items()}
    last = states[max(states)]
    layout = _reader(reader, last, found.config)
    known = Facts(layout.layout, found.config, facts)
    table = _task(task, layout, last, known, found)
    checkpoint = Checkpoint(
        title=found.title,
        layout=layout.layout,
        task=table,
        steps=sorted(states),
        build=partial(_model, layout, states, known, table, dtype),
        config=found.config,
        recorded=found.recorded,
        optimizer=found.optimizer,
        provenance={"files": list(found.files), "layout": layout.layout},
    )
    model = checkpoint.model()
    known.check_used()
    if (n_tokens := Adapter(model).n_tokens) != table.n_vocab:
        raise GrokinterpError(
            f"the weights have {n_tokens} tokens and task {table.name!r} has {table.n_vocab}, so a number may mean another token; pass the task "
            f"in the model's numbers (another p, tokens counted from 1), or dataclasses.replace(task, n_vocab={n_tokens}) where the rest is unused"
        )
    if check_record:
        layout.check_record(checkpoint, model)
    if check is not None:
        _compare(model, check, table)
    return checkpoint, model


def _model(reader: Reader, states: Mapping[int, State], facts: Facts, task: Task, dtype: torch.dtype | None, step: int) -> Any:
    state = states[step]
    if dtype is not None:
        state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    return reader.read(state, facts, task)


def _unwrapped(state: State, config: Mapping[str, Any]) -> State:
    """The weights without the names of what is around the model: ``module.``, ``_orig_mod.``, or a module of a training script.

    Raises:
        GrokinterpError: a model beside other tensors, or beside another model.
    """
    state = without_wrappers(state)
    for _ in range(_NESTED):
        if _recognised(state, config):
            break
        parts: dict[str, dict[str, Tensor]] = {}
        for name, value in state.items():
            outer, _, inner = name.partition(".")
            parts.setdefault(outer, {})[inner or name] = value
        if len(parts) > 1:
            _refuse_several(parts, config)
            break
        state = without_wrappers(next(iter(parts.values())))
    return state


def _recognised(state: State, config: Mapping[str, Any]) -> bool:
    return any(reader.recognises(state, config) for reader in READERS.values())


def _refuse_several(parts: Mapping[str, State], config: Mapping[str, Any]) -> None:
    """Raise where some of the modules of a training script are models, one beside a metric for example: which tensors count is the user's to say."""
    if models := [outer for outer, inner in parts.items() if _recognised(without_wrappers(inner), config)]:
        one = models[0]
        raise GrokinterpError(
            f"these weights hold a model under {' and one under '.join(models)}, among {', '.join(parts)}; pass one alone, "
            f"{{name.removeprefix('{one}.'): value for name, value in weights.items() if name.startswith('{one}.')}}"
        )


def _reader(asked: str | Reader | None, state: State, config: Mapping[str, Any]) -> Reader:
    if isinstance(asked, Reader):
        return asked
    if asked is not None:
        if asked not in READERS:
            raise unknown_name("reader", asked, READERS)
        return READERS[asked]
    fitting = [name for name, reader in READERS.items() if reader.recognises(state, config)]
    if len(fitting) > 1:
        raise GrokinterpError(f"these weights may be in the layout of {' or '.join(fitting)}; pass reader={fitting[0]!r} or reader={fitting[1]!r}")
    if not fitting:
        names = ", ".join(list(state)[:4])
        if (known := elsewhere(state)) is not None:
            raise GrokinterpError(f"load_checkpoint reads toy transformers, and {known}")
        raise GrokinterpError(
            f"no reader knows weights named {names} …; known layouts are {', '.join(READERS)}. Subclass grokinterp.checkpoints.Reader and "
            "pass reader=…, or build the model with hook points and pass it with task=…"
        )
    return READERS[fitting[0]]


def _task(given: Task | TaskConfig | None, reader: Reader, state: State, facts: Facts, found: Opened) -> Task:
    try:
        stated = reader.task(state, facts)
    except GrokinterpError:  # a task that the reader does not know, which is why one is given
        if given is None:
            raise
        stated = None
    if given is not None and stated is not None and stated.train is not None:
        raise GrokinterpError(f"{found.title} has a task of its own, {stated.name!r}; leave task={given.name!r} out")
    task = stated if given is None else given.build() if isinstance(given, TaskConfig) else given
    if task is None:
        raise GrokinterpError(
            f"{found.title} does not say its task; pass task=…, like task=gi.tasks.modular_addition(113).split(0.3, seed=0), split as in its training"
        )
    if found.train is None:
        return task
    mask = torch.zeros(len(task), dtype=torch.bool)
    if max(found.train, default=0) >= len(task) or min(found.train, default=0) < 0:
        raise GrokinterpError(
            f"{found.title} has training example {max(found.train)}, and task {task.name!r} has {len(task)} examples; pass its task"
        )
    mask[torch.tensor(found.train, dtype=torch.int64)] = True
    if task.train is not None and not torch.equal(task.train, mask):
        differ = int((task.train ^ mask).sum())
        raise GrokinterpError(
            f"the split of task {task.name!r} differs from the training indices of {found.title} in {differ} examples; leave it unsplit"
        )
    return replace(task, train=mask)


def _compare(model: Any, check: Callable[[Tensor], Tensor], task: Task) -> None:
    """Raise unless a model's logits are those of the user's function, at the read-out position of every example."""
    ours = at_readout(model, task.tokens, task.readout)[OUTPUT].double()
    with torch.no_grad():
        theirs = check(task.tokens)
    if not isinstance(theirs, Tensor):
        raise GrokinterpError(f"check returns logits, a tensor; got a {type(theirs).__name__}")
    if theirs.ndim == 3:
        theirs = theirs[:, index_of(task.readout, theirs.shape[1])]
    if theirs.shape != ours.shape:
        raise GrokinterpError(f"check returns logits of shape {tuple(theirs.shape)}, and the model that was read {tuple(ours.shape)}")
    difference = (ours - theirs.cpu().double()).abs()
    allowed = _TOLERANCE.get(theirs.dtype, 1e-4) * float(ours.abs().max())
    if not float(difference.max()) <= allowed:
        example = int(difference.nan_to_num(torch.inf).amax(1).argmax())
        raise GrokinterpError(
            f"the model that was read differs from check by {float(difference.max()):.3g} in the logits of tokens {task.tokens[example].tolist()}, "
            f"more than {allowed:.1g}: a fact like act_fn, causal or n_heads is not what you passed, or weights are named differently"
        )


def checkpoint_of(by_step: Mapping[int, Any], task: Task | Prompts | None) -> Checkpoint:
    """Models of a training loop of one's own, or of somebody's training, by step.

    Args:
        by_step: finished models with hook points, one object a step; functions without arguments that make one, called when their step's turn
            comes, so that only the last model and one more are in memory; or state dicts in a layout that needs no further facts.
        task: with its split; or prompts of a language model.

    Raises:
        GrokinterpError: no steps, no task, models and state dicts together, or one model under several steps.
    """
    if not by_step or not all(isinstance(step, int) and not isinstance(step, bool) for step in by_step):
        raise GrokinterpError(f"a mapping is read as {{step: model}} with whole numbers; got the keys {list(by_step)[:4]}")
    models = {step: model for step, model in by_step.items() if is_model(model) or _makes_a_model(model)}
    if not models:
        return load_checkpoint(by_step, task)
    if odd := [step for step in by_step if step not in models]:
        raise GrokinterpError(
            f"step {odd[0]} holds a {type(by_step[odd[0]]).__name__}, others models with hook points; pass models alone or state dicts alone"
        )
    if task is None:
        raise GrokinterpError(f"pass task=… with models of {len(models)} steps, split as in their training")
    of_step: dict[int, int] = {}
    for step in sorted(models):
        if (before := of_step.setdefault(id(models[step]), step)) != step:
            raise GrokinterpError(f"steps {before} and {step} hold the same model, as it is now; keep a copy.deepcopy(model) at each step")
    seen: dict[int, Any] = {}
    build = partial(_made, models, seen)
    return Checkpoint("models by step", "models with hook points", task, sorted(models), build, provenance={"models": seen})


def _makes_a_model(value: Any) -> bool:
    return callable(value) and not isinstance(value, torch.nn.Module)


def _made(models: Mapping[int, Any], seen: dict[int, Any], step: int) -> Any:
    """The model of a step, made now where a function makes it; where it comes from is noted in `seen`.

    Raises:
        GrokinterpError: the function gives something else, or the very model of another step.
    """
    model = models[step]
    if not is_model(model):
        gc.collect()  # the parts of a bridge refer to each other, so that the model of the step before is still in memory
        model = model()
        if not is_model(model):
            raise GrokinterpError(f"the function of step {step} gives a {type(model).__name__}, and analyze takes models with hook points")
    origin = getattr(model, "provenance", None)
    if origin and (same := [other for other, known in seen.items() if other != step and known == origin]):
        raise GrokinterpError(
            f"steps {same[0]} and {step} are the same model, {origin.get('source')} at revision {origin.get('revision')!r}; "
            "bind each step's own, as functools.partial(gi.load_model, name, revision=…) does"
        )
    if origin:
        seen[step] = origin
    return model
