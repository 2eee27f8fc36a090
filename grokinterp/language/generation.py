"""Text under an edit of a core, beside the same text without it: the verb's number flips, token by token, as strongly as each token needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.ace.core import Core, Project
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.language.grammar import VERBS, Verb
from grokinterp.language.prompts import token_ids, verb_ids
from grokinterp.models.adapter import Adapter
from grokinterp.models.edits import hooked
from grokinterp.models.hanging import refuse_dropout
from grokinterp.models.last_token import Resumed
from grokinterp.models.resume import logits_of, remembers

Mode = Literal["flip", "keep", "remove"]
Strengths = Float[Tensor, "variant text"]
VariantLogits = Float[Tensor, "variant text vocab"]

PROBE = 0.2  # strength of the trial edit (paper)
LIMIT = 50.0  # of |s| (paper)
EPSILON = 3.0
"""Margin, in nats, that the automatic strength aims at on the other side (chosen here: odds of e³ ≈ 20 to 1)."""
THRESHOLD = 0.05
"""Probability of all verb forms together below which a token is left alone (chosen here)."""


@dataclass(frozen=True)
class Generation:
    """A prompt gone on with, clean and edited, drawn with the same random numbers.

    Attributes:
        prompt: what was given.
        clean: prompt and continuation without the edit.
        edited: prompt and continuation under it.
        clean_tokens: generated.
        edited_tokens: generated.
        strengths: s at each generated token of the edited text; 0 where it was left alone.
        probabilities: for each verb form its probability behind the prompt, (clean, edited).
    """

    prompt: str
    clean: str
    edited: str
    clean_tokens: tuple[int, ...]
    edited_tokens: tuple[int, ...]
    strengths: tuple[float, ...]
    probabilities: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        rows = [f"{form:<12}{clean:>8.3f}{edited:>10.3f}" for form, (clean, edited) in self.probabilities.items()]
        return "\n".join([f"{'':<12}{'clean':>8}{'edited':>10}", *rows, "", f"clean   {self.clean}", f"edited  {self.edited}"])


def generate(
    model: Any,
    prompt: str,
    core: Core,
    mode: Mode = "flip",
    strength: float | Literal["auto"] = "auto",
    *,
    n_tokens: int = 50,
    temperature: float = 1.0,
    top_k: int = 50,
    seed: int = 0,
    verbs: Sequence[Verb] = VERBS,
    threshold: float = THRESHOLD,
    epsilon: float = EPSILON,
    cached: bool = True,
    tokenizer: Any = None,
) -> Generation:
    """A prompt continued with the core edited at the last position, h + s(edit(h) − h), beside its clean continuation.

    The flip is h − 2s[(h − μ)ᵀq]q. Automatic s, for each token: 0 where the verbs' probability is below the threshold; else one secant step
    from a probe at 0.2, so that the log-sum-exp margin m (plural minus singular forms) becomes −sign(m₀)ε, |s| ≤ 50 (arXiv 2602.22600).
    A position once edited stays so: later tokens attend to its edited keys and values, with and without a cache.

    Args:
        model: a HookedTransformer or TransformerBridge.
        prompt: without trailing space.
        core: where and what to edit; it acts at the last position, whatever its `positions`.
        mode: "flip", "keep" or "remove".
        strength: s for every token, 1 for the whole edit; or "auto", of the flip alone.
        n_tokens: to generate (paper: 50).
        temperature: of the softmax that is drawn from (paper: 1); 0 for the likeliest token.
        top_k: only the k likeliest tokens are drawn (paper: 50).
        seed: of the random numbers that both texts share, so that they differ only where the edit makes them.
        verbs: forms whose number is flipped, each one token.
        threshold: see above, 0 to edit every token.
        epsilon: margin aimed at, nats.
        cached: keep keys and values (a bare HookedTransformer, residual hooks); else pass after pass of the whole model, which
            any other model or hook gets anyway: the same tokens, later.
        tokenizer: None for the model's own.

    Raises:
        GrokinterpError: an empty prompt, a hook that the model has not, a core of another width, a verb that is not one token, an automatic
            strength of another mode than flip, more tokens than the context holds, numbers out of range.
    """
    tokenizer = tokenizer or model.tokenizer
    ids = token_ids(tokenizer, prompt)
    _check(model, core, mode, strength, len(ids), n_tokens, temperature, top_k)
    forms = verb_ids(tokenizer, verbs)
    plural, singular = (torch.tensor([forms[form] for form in column]) for column in zip(*((v.plural, v.singular) for v in verbs), strict=True))
    edit: Project = {"flip": core.flip, "keep": core.keep, "remove": core.remove}[mode]()
    fast = cached and remembers(model) and Adapter(model).layer_of(core.hook) is not None
    texts: _Texts = _Cached(model, ids, edit) if fast else _Passes(model, ids, edit)
    generator = torch.Generator().manual_seed(seed)
    tokens, strengths, first = [], [], torch.empty(0)
    for _ in range(n_tokens):
        if strength == "auto":
            logits = texts.logits(torch.tensor([[0.0, 0.0], [0.0, PROBE]]))
            s = _secant(logits[:, 1].double(), plural, singular, threshold, epsilon)
        else:
            s = float(strength)
        if s or strength != "auto":
            logits = texts.logits(torch.tensor([[0.0, s]]))
        drawn = _draw(logits[0].double(), temperature, top_k, generator)
        first = first if len(first) else logits[0].double().softmax(-1)
        texts.append(torch.tensor([0.0, s]), drawn)
        tokens.append(drawn)
        strengths.append(s)
    clean, edited = torch.stack(tokens, dim=1).tolist()
    return Generation(
        prompt=prompt,
        clean=tokenizer.decode(ids + clean),
        edited=tokenizer.decode(ids + edited),
        clean_tokens=tuple(clean),
        edited_tokens=tuple(edited),
        strengths=tuple(strengths),
        probabilities={form: (float(first[0, token]), float(first[1, token])) for form, token in forms.items()},
    )


class _Texts(Protocol):
    """The clean text and the edited one, growing."""

    def logits(self, strengths: Strengths) -> VariantLogits:
        """Next-token logits with trial strengths at the last position."""
        ...

    def append(self, strengths: Float[Tensor, "text"], tokens: Int[Tensor, "text"]) -> None:
        """Settle the last position's strengths, those tried last in variant 0, and go on by one token."""
        ...


class _Cached:
    """One row for each text and trial through the model's parts, from the edited layer upwards."""

    def __init__(self, model: Any, ids: list[int], edit: Project) -> None:
        tokens = torch.tensor([ids, ids], device=Adapter(model).device)
        self.run = Resumed(model, tokens, torch.full((2,), len(ids) - 1, device=tokens.device))
        self.edit, self.layer = edit, self.run.layer_of(edit.hook)
        self.below: Tensor | None = None

    @torch.no_grad()
    def logits(self, strengths: Strengths) -> VariantLogits:
        if self.below is None:
            self.below = self.run.entry[None]
            for i in range(self.layer):
                self.below = self.run.block(i, self.below)
        x = _edited(self.below, self.edit, strengths)
        for i in range(self.layer, self.run.n_layers):
            x = self.run.block(i, x)
        return logits_of(self.run.model, x).cpu()

    def append(self, strengths: Float[Tensor, "text"], tokens: Int[Tensor, "text"]) -> None:
        self.run.append(tokens.to(self.run.tokens.device))
        self.below = None


class _Passes:
    """The whole model for every trial, with the strengths of all positions so far."""

    def __init__(self, model: Any, ids: list[int], edit: Project) -> None:
        self.model, self.edit, self.start = model, edit, len(ids) - 1
        self.tokens = torch.tensor([ids, ids], device=Adapter(model).device)
        self.settled = torch.zeros(2, 0)

    @torch.no_grad()
    def logits(self, strengths: Strengths) -> VariantLogits:
        found = []
        for trial in strengths:
            all_strengths = torch.cat([self.settled, trial[:, None]], dim=1)

            def hook_function(value: Tensor, hook: Any, s: Tensor = all_strengths) -> Tensor:
                return torch.cat([value[:, : self.start], _edited(value[:, self.start :], self.edit, s)], dim=1)

            with hooked(self.model, [(self.edit.hook, hook_function)]):
                found.append(self.model(self.tokens)[:, -1])
        return torch.stack(found).cpu()

    def append(self, strengths: Float[Tensor, "text"], tokens: Int[Tensor, "text"]) -> None:
        self.settled = torch.cat([self.settled, strengths[:, None]], dim=1)
        self.tokens = torch.cat([self.tokens, tokens[:, None].to(self.tokens.device)], dim=1)


def _edited(h: Float[Tensor, "a b d_model"], edit: Project, strengths: Float[Tensor, "c d"]) -> Float[Tensor, "e f d_model"]:
    """h + s(edit(h) − h), broadcast over the first two dimensions."""
    return h + strengths.to(h)[..., None] * (edit(h) - h)


def _secant(logits: Float[Tensor, "2 vocab"], plural: Tensor, singular: Tensor, threshold: float, epsilon: float) -> float:
    """The automatic strength from logits without edit and at the probe."""
    if float(logits[0].softmax(-1)[torch.cat([plural, singular])].sum()) < threshold:
        return 0.0
    start, probed = (logits[:, plural].logsumexp(-1) - logits[:, singular].logsumexp(-1)).tolist()
    wanted = -epsilon if start > 0 else epsilon
    slope = (probed - start) / PROBE
    # A core that does not move the margin gets the limit, on the side that a flip has.
    return LIMIT if slope == 0 else max(-LIMIT, min(LIMIT, (wanted - start) / slope))


def _draw(logits: Float[Tensor, "text vocab"], temperature: float, top_k: int, generator: torch.Generator) -> Int[Tensor, "text"]:
    """One token for each text with the same Gumbel noise: the same token where the distributions are the same."""
    if temperature == 0:
        return logits.argmax(-1)
    uniform = torch.rand(logits.shape[-1], generator=generator, dtype=torch.float64).clamp_min(1e-300)
    least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
    return (logits.masked_fill(logits < least, float("-inf")) / temperature - (-uniform.log()).log()).argmax(-1)


def _check(model: Any, core: Core, mode: str, strength: float | str, n_given: int, n_tokens: int, temperature: float, top_k: int) -> None:
    Adapter(model).check_hook(core.hook)
    refuse_dropout(model)
    if mode not in get_args(Mode):
        raise unknown_name("mode", mode, get_args(Mode))
    if isinstance(strength, str) and strength != "auto":
        raise GrokinterpError(f'strength is a number or "auto"; got {strength!r}')
    if strength == "auto" and mode != "flip":
        raise GrokinterpError(f'an automatic strength turns the margin over, which is what "flip" does; give {mode!r} a number, 1 for the whole edit')
    if len(core.mean) != model.cfg.d_model:
        raise GrokinterpError(f"this core lives in {len(core.mean)} dimensions and the model in {model.cfg.d_model}; extract one from this model")
    for name, value, least in (("n_tokens", n_tokens, 1), ("top_k", top_k, 1), ("temperature", temperature, 0)):
        if not value >= least:
            raise GrokinterpError(f"{name} must be at least {least}; got {value}")
    if n_given + n_tokens > model.cfg.n_ctx:
        raise GrokinterpError(
            f"{n_given} tokens of prompt and {n_tokens} to generate do not fit into the context of {model.cfg.n_ctx}; ask for fewer"
        )
