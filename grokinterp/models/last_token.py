"""What a model says after the last token of each prompt, clean and under edits there, from as little computation as possible.

With causal attention a change at the last position of layer ℓ reaches only that position in later layers, and what comes after it. So the earlier
positions run once, their keys and values are kept, and one row for each prompt and edit goes on from the layer where the edit is made, through the
model's own blocks; rows of all layers and edits travel together. Where a word is spelled by several tokens, its row is that much longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.errors import GrokinterpError
from grokinterp.models.adapter import Adapter
from grokinterp.models.edits import HookFunction, Hooks, hooked
from grokinterp.models.forms import NEXT, Ends, Forms
from grokinterp.models.hanging import refuse_dropout
from grokinterp.models.past import Past
from grokinterp.models.resume import Blocks, blocks_of, gradients, knows_no_position, logits_of
from grokinterp.shapes import Examples, Tokens

Columns = Int[Tensor, "column"]
Stream = Float[Tensor, "variant row position d_model"]
ByHook = Float[Tensor, "hook example d_model"]
ReadOut = Float[Tensor, "variant example column"]
Scores = Float[Tensor, "variant example form"]


class Edit(Protocol):
    """What is done at one hook to activations [..., d_model], position by position."""

    @property
    def hook(self) -> str:
        """Name of the hook."""
        ...

    def __call__(self, activations: Any, /) -> Any:
        """The edited activations."""
        ...


class LastToken(Protocol):
    """The last token of each prompt of a batch, readable at any hook, and the words that may follow it."""

    def logits(self, edits: Sequence[Edit] = (), columns: Columns | None = None) -> ReadOut:
        """Logits after the last token, [1 + edit, example, column]: clean first, then under each edit alone.

        Args:
            edits: each acts at its own hook, on the last token alone.
            columns: tokens whose logits are read; None for the whole vocabulary.
        """
        ...

    def scores(self, edits: Sequence[Edit] = (), *, normalised: bool = False) -> Scores:
        """How likely each word follows, [1 + edit, example, form]: clean first, then under each edit alone.

        Args:
            edits: each acts at its own hook, on the last token of the prompt alone.
            normalised: log-probabilities of whole words, in natural logarithms; else words of one token each are given their logits, which differ
                from that by a number that all share.
        """
        ...

    def activations(self, hooks: Sequence[str]) -> ByHook:
        """Clean activations at the last token, [hook, example, d_model]."""
        ...

    def gradients(self, hooks: Sequence[str], signs: Float[Tensor, "example form"]) -> tuple[ByHook, ByHook]:
        """The same activations, and the gradient there of Σ signs · scores, each [hook, example, d_model].

        Examples do not mix, so that one backward pass of the sum over them gives each its own gradient, at all hooks.
        """
        ...


def last_tokens(
    model: Any, tokens: Tokens, ends: Ends, hooks: Sequence[str], batch_size: int, forms: Forms = NEXT
) -> Iterator[tuple[Examples, LastToken]]:
    """Readers of batches of prompts, each with the examples that it holds: the fastest that give this model's numbers at these hooks.

    Prompts of several lengths share a batch only where nothing can see it; where something hangs on the model, or a block knows where a token
    stands, a batch holds prompts of one length and no padding, so that position −1 is the last token of each.

    Args:
        model: a HookedTransformer, or a TransformerBridge.
        tokens: [example, position]; what follows a prompt's end is never read.
        ends: position of each prompt's last token.
        hooks: where activations will be read or edited.
        batch_size: prompts at once.
        forms: words that may follow.

    Raises:
        GrokinterpError: a hook that the model lacks, attention to later tokens, prompts longer than the context, dropout in force.
    """
    adapter = Adapter(model)
    refuse_dropout(model)
    for hook in hooks:
        adapter.check_hook(hook)
    if not adapter.causal:
        raise GrokinterpError("the last token is read on its own in causal models; this one attends to later tokens, too")
    if (longest := int(ends.max()) + 1 + forms.n_behind) > model.cfg.n_ctx:
        verb = f", {forms.n_behind} of them of a verb," if forms.n_behind else ""
        raise GrokinterpError(f"the longest prompt has {longest} tokens{verb} and the model's context {model.cfg.n_ctx}")
    blocks = blocks_of(model) if all(adapter.layer_of(hook) is not None for hook in hooks) else None
    mixed = (knows_no_position(model) if blocks else adapter.bare) and not forms.n_behind
    order = torch.argsort(ends, stable=True)
    groups = [order] if mixed else [order[ends[order] == end] for end in sorted(set(ends.tolist()))]
    for group in groups:
        for examples in torch.split(group, batch_size):
            own = ends[examples]
            rows = tokens[examples, : int(own.max()) + 1].to(adapter.device)
            yield (
                examples,
                Resumed(model, rows, own.to(adapter.device), forms, blocks) if blocks else Whole(model, rows, own.to(adapter.device), forms),
            )


class Resumed:
    """The last token through the model's own blocks, with the earlier positions' keys and values at hand.

    Where blocks know no position and one token is read, the variants of an example stand side by side like positions that see the past and
    themselves; elsewhere each is a row of its own, at its own positions, with a copy of the past.

    Args:
        model: one that has `blocks_of` it.
        tokens: [example, position].
        ends: position of each prompt's last token; the same for all where blocks know positions or words are spelled by several tokens.
        forms: words that may follow.
        blocks: the model's; None to look for them.
        past: keys and values of what stands before, for each row, where they are at hand.
    """

    def __init__(
        self,
        model: Any,
        tokens: Tokens,
        ends: Ends,
        forms: Forms = NEXT,
        blocks: Blocks | None = None,
        past: dict[int, Past] | None = None,
    ) -> None:
        found = blocks or blocks_of(model)
        assert found is not None
        self.model, self.forms, self.blocks, self.tokens = model, forms, found, tokens
        self.n_layers, self.n_examples, n_before = Adapter(model).n_layers, len(tokens), int(ends.max())
        self.side_by_side = knows_no_position(model) and not forms.n_behind
        rows, ends_of_rows = forms.behind(tokens, ends)
        with torch.no_grad():
            stream = self.blocks.embedded(rows)
            here = ends_of_rows[:, None] + torch.arange(1 + forms.n_behind, device=rows.device)
            self.entry: Tensor = stream[torch.arange(len(rows), device=rows.device)[:, None], here]
            if past is None and n_before:
                before = self.blocks.forward(stream[: self.n_examples, :n_before], 0, self.n_layers)[1]
                past = {i: own.repeated(len(forms.paths)) for i, own in before.items()}
        self.past = past
        # [row, 1, 1, position] against scores [row, head, variant, position]: what is not before the last token.
        self.hidden = (torch.arange(n_before, device=tokens.device) >= ends_of_rows[:, None])[:, None, None]
        self.own: dict[int, Past] = {}

    def logits(self, edits: Sequence[Edit] = (), columns: Columns | None = None) -> ReadOut:
        """See `LastToken.logits`."""
        with torch.no_grad():
            return logits_of(self.model, self._behind(edits)[:, : self.n_examples, 0], columns)

    def scores(self, edits: Sequence[Edit] = (), *, normalised: bool = False) -> Scores:
        """See `LastToken.scores`."""
        with torch.no_grad():
            return self.read(self._behind(edits), normalised)

    def activations(self, hooks: Sequence[str]) -> ByHook:
        """See `LastToken.activations`."""
        layers = [self.layer_of(hook) for hook in hooks]
        with torch.no_grad():
            stream = self._stream(self.entry, max(layers))
        return torch.stack([stream[layer][0, : self.n_examples, 0] for layer in layers])

    def gradients(self, hooks: Sequence[str], signs: Float[Tensor, "example form"]) -> tuple[ByHook, ByHook]:
        """See `LastToken.gradients`."""
        with torch.enable_grad():
            stream = self._stream(self.entry.clone().requires_grad_(), self.n_layers)
            score = (self.read(stream[-1], normalised=False)[0] * signs.to(self.entry)).sum()
        chosen = [stream[self.layer_of(hook)] for hook in hooks]
        values = torch.stack([value[0, : self.n_examples, 0] for value in chosen]).detach()
        return values, torch.stack([_over_paths(slope[0, :, 0], self.forms) for slope in gradients(score, chosen)])

    def read(self, x: Stream, normalised: bool) -> Scores:
        """Scores of the words from the stream after the last block."""
        if self.forms.single and not normalised:
            return logits_of(self.model, x[:, :, 0], self.forms.first.to(x.device))
        return torch.stack([self.forms.log_probabilities(logits_of(self.model, variant)) for variant in x])

    def layer_of(self, hook: str) -> int:
        """The number of blocks before a hook on the residual stream."""
        layer = Adapter(self.model).layer_of(hook)
        assert layer is not None
        return layer

    def block(self, i: int, x: Stream) -> Stream:
        """One block at the positions that are read; variant 0's keys and values are noted in `own`."""
        n_variants, n_rows, n_before = len(x), x.shape[1], self.hidden.shape[-1]
        past = None if self.past is None else self.past[i]
        if self.side_by_side:
            point = self.model.blocks[i].attn.hook_attn_scores
            handle = point.register_forward_hook(lambda module, inputs, scores: scores.masked_fill(self._unseen(n_variants), float("-inf")))
            try:
                out, with_own = self.blocks.forward(x[:, :, 0].transpose(0, 1).contiguous(), i, i + 1, {i: past} if past else None)
            finally:
                handle.remove()
            out = out.transpose(0, 1).contiguous()[:, :, None]  # else the unembedding reads W_U once for each variant
        else:
            out, with_own = self.blocks.forward(x.flatten(0, 1), i, i + 1, {i: past.repeated(n_variants)} if past else None)
            out = out.view_as(x)
        first = slice(n_rows), slice(n_before, n_before + 1)
        self.own[i] = Past(with_own[i].keys[first], with_own[i].values[first])
        return out

    def append(self, tokens: Int[Tensor, "example"]) -> None:
        """Go on by one token: the last position as it was last run, variant 0, becomes part of the past."""
        self.past = {i: self.past[i].then(own) if self.past else own for i, own in self.own.items()}
        self.hidden = torch.nn.functional.pad(self.hidden, (0, 1), value=False)
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)
        with torch.no_grad():
            self.entry = self.blocks.embedded(self.tokens)[:, -1:]

    def spelling(self, forms: Forms) -> Resumed:
        """A reader of other words after the same tokens, with the same past; all texts are equally long."""
        past = None if self.past is None else {i: own.repeated(len(forms.paths)) for i, own in self.past.items()}
        ends = torch.full((self.n_examples,), self.tokens.shape[1] - 1, device=self.tokens.device)
        return Resumed(self.model, self.tokens, ends, forms, self.blocks, past)

    def _behind(self, edits: Sequence[Edit]) -> Stream:
        """The stream after the last block, clean first, then under each edit."""
        order: list[int] = []
        x = self.entry[None]
        for layer in range(self.n_layers + 1):
            x = self.block(layer - 1, x) if layer else x
            here = [i for i, edit in enumerate(edits) if self.layer_of(edit.hook) == layer]
            x = torch.cat([x, *(torch.cat([edits[i](x[:1, :, :1]), x[:1, :, 1:]], dim=2) for i in here)])
            order += here
        return x[[0, *(1 + order.index(i) for i in range(len(edits)))]]

    def _unseen(self, n_variants: int) -> Tensor:
        """Scores that do not count, [row, 1, variant, position]: what is not before the last token, and the other variants."""
        others = ~torch.eye(n_variants, dtype=torch.bool, device=self.hidden.device)
        n_rows, n_before = len(self.hidden), self.hidden.shape[-1]
        return torch.cat([self.hidden.expand(-1, 1, n_variants, n_before), others.expand(n_rows, 1, -1, -1)], dim=-1)

    def _stream(self, entry: Tensor, n_blocks: int) -> list[Stream]:
        """The residual stream before the first block and after each, one variant."""
        stream = [entry[None]]
        for i in range(n_blocks):
            stream.append(self.block(i, stream[-1]))
        return stream


class Whole:
    """The last token from a pass of the whole model for each edit: slower, for any causal model, any hook and whatever hangs on it.

    Args:
        model: a HookedTransformer or TransformerBridge.
        tokens: [example, position].
        ends: position of each prompt's last token.
        forms: words that may follow.
    """

    def __init__(self, model: Any, tokens: Tokens, ends: Ends, forms: Forms = NEXT) -> None:
        self.model, self.forms, self.n_examples = model, forms, len(tokens)
        self.tokens, self.ends = forms.behind(tokens, ends)
        self.rows = torch.arange(len(self.tokens), device=tokens.device)

    def logits(self, edits: Sequence[Edit] = (), columns: Columns | None = None) -> ReadOut:
        """See `LastToken.logits`."""
        found = torch.stack([self._here(logits)[: self.n_examples, 0] for logits in self._under(edits)])
        return found if columns is None else found[..., columns]

    def scores(self, edits: Sequence[Edit] = (), *, normalised: bool = False) -> Scores:
        """See `LastToken.scores`."""
        return torch.stack([self._read(logits, normalised) for logits in self._under(edits)])

    def activations(self, hooks: Sequence[str]) -> ByHook:
        """See `LastToken.activations`."""
        with torch.no_grad():
            return self._at_hooks(self._kept(hooks)[1])

    def gradients(self, hooks: Sequence[str], signs: Float[Tensor, "example form"]) -> tuple[ByHook, ByHook]:
        """See `LastToken.gradients`."""
        with torch.enable_grad():
            logits, values = self._kept(hooks)
            slopes = gradients((self._read(logits, normalised=False) * signs.to(logits)).sum(), values)
        return self._at_hooks(values), torch.stack([_over_paths(self._last(slope), self.forms) for slope in slopes]).detach()

    def _under(self, edits: Sequence[Edit]) -> Iterator[Tensor]:
        """Logits everywhere, clean first, then under each edit alone."""
        for edit in (None, *edits):
            with torch.no_grad():
                logits = self._run([] if edit is None else [(edit.hook, self._edit(edit))])
            yield logits

    def _kept(self, hooks: Sequence[str]) -> tuple[Tensor, list[Tensor]]:
        """Logits and the whole values of hooks on their way to them."""
        kept: dict[str, Tensor] = {}

        def keep(name: str) -> HookFunction:
            def hook_function(value: Tensor, hook: Any) -> Tensor:
                # The first hook of a model whose weights are frozen is where the graph begins.
                kept[name] = value.detach().requires_grad_() if torch.is_grad_enabled() and not value.requires_grad else value
                return kept[name]

            return hook_function

        logits = self._run([(hook, keep(hook)) for hook in hooks])
        return logits, [kept[hook] for hook in hooks]

    def _at_hooks(self, values: Sequence[Tensor]) -> ByHook:
        return torch.stack([self._last(value)[: self.n_examples] for value in values]).detach()

    def _run(self, hooks: Hooks) -> Tensor:
        with hooked(self.model, hooks):
            logits: Tensor = self.model(self.tokens, **Adapter(self.model).pass_options)
        return logits

    def _read(self, logits: Tensor, normalised: bool) -> Float[Tensor, "example form"]:
        here = self._here(logits)
        return here[:, 0, self.forms.first.to(logits.device)] if self.forms.single and not normalised else self.forms.log_probabilities(here)

    def _edit(self, edit: Edit) -> Callable[[Tensor, Any], Tensor]:
        def hook_function(value: Tensor, hook: Any) -> Tensor:
            return value.index_put((self.rows, self.ends), edit(self._last(value)))

        return hook_function

    def _last(self, value: Tensor) -> Tensor:
        return value[self.rows, self.ends]

    def _here(self, value: Tensor) -> Tensor:
        """From the last token of each text on."""
        positions = self.ends[:, None] + torch.arange(1 + self.forms.n_behind, device=value.device)
        return value[self.rows[:, None], positions]


def _over_paths(slopes: Float[Tensor, "row d_model"], forms: Forms) -> Float[Tensor, "example d_model"]:
    """The gradient at a text's last token, which every path of words begins with."""
    return slopes.reshape(len(forms.paths), -1, slopes.shape[-1]).sum(0)
