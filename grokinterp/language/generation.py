"""Text under an edit of a core, beside the same text without it: the verb's number flips, token by token, as strongly as each token needs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.ace.core import Core, Project
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.language.grammar import VERBS, Verb
from grokinterp.language.spelling import ids_in_front, spellings, token_ids
from grokinterp.models.adapter import Adapter
from grokinterp.models.edits import hooked
from grokinterp.models.forms import Forms
from grokinterp.models.hanging import refuse_dropout
from grokinterp.models.last_token import Resumed
from grokinterp.models.resume import Blocks, blocks_of, laid_out, logits_of

Mode = Literal["flip", "keep", "remove"]
Strengths = Float[Tensor, "variant text"]
Logits = Float[Tensor, "text vocab"]
VariantScores = Float[Tensor, "variant text form"]

PROBE = 0.2  # strength of the trial edit (paper)
LIMIT = 50.0  # of |s| (paper)
EPSILON = 3.0
"""Margin, in nats, that the automatic strength aims at on the other side (chosen here: odds of e³ ≈ 20 to 1)."""
THRESHOLD = 0.05
"""Probability of all verb forms together below which a token is left alone (chosen here)."""


@dataclass(frozen=True)
class Generation:
    """Two continuations of a prompt, clean and edited, drawn with the same random numbers.

    Attributes:
        prompt: what was given.
        clean: prompt and continuation without the edit.
        edited: prompt and continuation under it.
        clean_tokens: generated.
        edited_tokens: generated.
        strengths: s at each generated token of the edited text; 0 where it was left alone.
        probabilities: for each verb form its probability after the prompt, (clean, edited).
        mass: probability of all verb forms together at each generated token of the edited text, before it is edited.
        threshold: of that probability, below which an automatic strength leaves a token alone; None where the strength was given.
    """

    prompt: str
    clean: str
    edited: str
    clean_tokens: tuple[int, ...]
    edited_tokens: tuple[int, ...]
    strengths: tuple[float, ...]
    probabilities: Mapping[str, tuple[float, float]]
    mass: tuple[float, ...] = ()
    threshold: float | None = None

    @property
    def note(self) -> str:
        """Why nothing was edited, where nothing was; "" otherwise."""
        if self.threshold is None or not self.mass or max(self.mass) >= self.threshold:
            return ""
        return (
            f"nothing was edited: the verbs {', '.join(self.probabilities)} together have a probability of at most {max(self.mass):.3g} at each "
            f"of the {len(self.mass)} tokens, below the threshold of {self.threshold:g}; choose other verbs or a lower threshold"
        )

    def __str__(self) -> str:
        rows = [f"{form:<12}{clean:>8.3f}{edited:>10.3f}" for form, (clean, edited) in self.probabilities.items()]
        texts = [f"clean   {self.clean}", f"edited  {self.edited}"]
        return "\n".join([f"{'':<12}{'clean':>8}{'edited':>10}", *rows, "", *texts, *([self.note] if self.note else [])])


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
    bos: bool | None = None,
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
        verbs: forms whose number is flipped, each of one token or several.
        threshold: see above, 0 to edit every token.
        epsilon: margin aimed at, nats.
        cached: keep keys and values (a bare model, residual hooks); else pass after pass of the whole model, which
            any other model or hook gets anyway: the same tokens, more slowly.
        tokenizer: None for the model's own.
        bos: put the beginning-of-text token in front; None as the tokenizer does by itself.

    Raises:
        GrokinterpError: an empty prompt, a hook that the model lacks, a core of another width, a verb that the tokenizer does not know, an automatic
            strength of another mode than flip, more tokens than the context holds, numbers out of range.
    """
    tokenizer = tokenizer or model.tokenizer
    front, given = ids_in_front(tokenizer, bos), token_ids(tokenizer, prompt)
    spelled = spellings(tokenizer, [prompt], [[form for verb in verbs for form in verb]])
    forms, words = Forms(tuple(spelled.values())), list(spelled)
    _check(model, core, mode, strength, len(front + given), n_tokens + forms.n_behind, temperature, top_k)
    plural, singular = ([words.index(form) for form in column] for column in zip(*((v.plural, v.singular) for v in verbs), strict=True))
    edit: Project = {"flip": core.flip, "keep": core.keep, "remove": core.remove}[mode]()
    blocks = blocks_of(model) if cached and Adapter(model).layer_of(core.hook) is not None else None
    texts: _Texts = _Cached(model, front + given, edit, forms, blocks) if blocks else _Passes(model, front + given, edit, forms)
    generator = torch.Generator().manual_seed(seed)
    tokens, strengths, mass, first = [], [], [], torch.empty(0)
    with laid_out(model) if blocks else contextlib.nullcontext():
        for _ in range(n_tokens):
            if strength == "auto":
                logits, scores = texts.read(torch.tensor([[0.0, 0.0], [0.0, PROBE]]))
                mass.append(float(scores[0, 1].exp().sum()))
                s = 0.0 if mass[-1] < threshold else _secant(scores[:, 1], plural, singular, epsilon)
            else:
                s = float(strength)
            if s or strength != "auto":
                logits, scores = texts.read(torch.tensor([[0.0, s]]))
            drawn = _draw(logits.double(), temperature, top_k, generator)
            first = first if len(first) else scores[0].exp()
            texts.append(torch.tensor([0.0, s]), drawn)
            tokens.append(drawn)
            strengths.append(s)
    clean, edited = torch.stack(tokens, dim=1).tolist()
    return Generation(
        prompt=prompt,
        clean=tokenizer.decode(given + clean),
        edited=tokenizer.decode(given + edited),
        clean_tokens=tuple(clean),
        edited_tokens=tuple(edited),
        strengths=tuple(strengths),
        probabilities={form: (float(first[0, i]), float(first[1, i])) for i, form in enumerate(words)},
        mass=tuple(mass),
        threshold=threshold if strength == "auto" else None,
    )


class _Texts(Protocol):
    """The clean text and the edited one, growing."""

    def read(self, strengths: Strengths) -> tuple[Logits, VariantScores]:
        """Next-token logits of variant 0, and scores of whole verb forms in float64, with trial strengths at the last position.

        Scores are log-probabilities in variant 0; in the others they may differ from that by a number that all forms share.
        """
        ...

    def append(self, strengths: Float[Tensor, "text"], tokens: Int[Tensor, "text"]) -> None:
        """Settle the last position's strengths, those tried last in variant 0, and go on by one token."""
        ...


class _Cached:
    """One row for each text and trial through the model's blocks, from the edited layer upwards."""

    def __init__(self, model: Any, ids: list[int], edit: Project, forms: Forms, blocks: Blocks) -> None:
        tokens = torch.tensor([ids, ids], device=Adapter(model).device)
        self.run = Resumed(model, tokens, torch.full((2,), len(ids) - 1, device=tokens.device), blocks=blocks)
        self.edit, self.forms, self.layer = edit, forms, self.run.layer_of(edit.hook)
        self.below: Tensor | None = None
        self.clean: Tensor | None = None  # logits of the clean text, which no trial changes

    @torch.no_grad()
    def read(self, strengths: Strengths) -> tuple[Logits, VariantScores]:
        if self.below is None:
            self.below = self._below(self.run)
        x = self._above(self.run, self.below, strengths)[:, :, 0]
        self.clean = logits_of(self.run.model, x[0, :1]) if self.clean is None else self.clean
        logits = torch.cat([self.clean, logits_of(self.run.model, x[0, 1:])]).cpu()
        if self.forms.single:
            others = logits_of(self.run.model, x[1:], self.forms.first.to(x.device)).double().cpu()
            return logits, torch.cat([self.forms.log_probabilities(logits[:, None])[None], others])
        spelling = self.run.spelling(self.forms)
        after = self._above(spelling, self._below(spelling), strengths.repeat(1, len(self.forms.paths)))
        return logits, spelling.read(after, normalised=True).cpu()

    def append(self, strengths: Float[Tensor, "text"], tokens: Int[Tensor, "text"]) -> None:
        self.run.append(tokens.to(self.run.tokens.device))
        self.below = self.clean = None

    def _below(self, run: Resumed) -> Tensor:
        x = run.entry[None]
        for i in range(self.layer):
            x = run.block(i, x)
        return x

    def _above(self, run: Resumed, below: Tensor, strengths: Strengths) -> Tensor:
        """The stream after the last block, the first of the positions edited."""
        x = below.expand(len(strengths), -1, -1, -1)
        x = torch.cat([_edited(x[:, :, 0], self.edit, strengths)[:, :, None], x[:, :, 1:]], dim=2)
        for i in range(self.layer, run.n_layers):
            x = run.block(i, x)
        return x


class _Passes:
    """The whole model for every trial, with the strengths of all positions so far."""

    def __init__(self, model: Any, ids: list[int], edit: Project, forms: Forms) -> None:
        self.model, self.edit, self.forms, self.start = model, edit, forms, len(ids) - 1
        self.tokens = torch.tensor([ids, ids], device=Adapter(model).device)
        self.settled = torch.zeros(2, 0)

    @torch.no_grad()
    def read(self, strengths: Strengths) -> tuple[Logits, VariantScores]:
        n_paths, n_positions = len(self.forms.paths), self.tokens.shape[1]
        rows, _ = self.forms.behind(self.tokens, torch.full((2,), n_positions - 1))
        logits, scores = [], []
        for trial in strengths:
            every = torch.cat([self.settled, trial[:, None]], dim=1).repeat(n_paths, 1)

            def hook_function(value: Tensor, hook: Any, s: Tensor = every) -> Tensor:
                edited = _edited(value[:, self.start : n_positions], self.edit, s)
                return torch.cat([value[:, : self.start], edited, value[:, n_positions:]], dim=1)

            with hooked(self.model, [(self.edit.hook, hook_function)]):
                found = self.model(rows, **Adapter(self.model).pass_options)[:, n_positions - 1 :]
            logits.append(found[:2, 0])
            scores.append(self.forms.log_probabilities(found))
        return logits[0].cpu(), torch.stack(scores).cpu()

    def append(self, strengths: Float[Tensor, "text"], tokens: Int[Tensor, "text"]) -> None:
        self.settled = torch.cat([self.settled, strengths[:, None]], dim=1)
        self.tokens = torch.cat([self.tokens, tokens[:, None].to(self.tokens.device)], dim=1)


def _edited(h: Float[Tensor, "a b d_model"], edit: Project, strengths: Float[Tensor, "c d"]) -> Float[Tensor, "e f d_model"]:
    """h + s(edit(h) − h), broadcast over the first two dimensions."""
    return h + strengths.to(h)[..., None] * (edit(h) - h)


def _secant(scores: Float[Tensor, "2 form"], plural: Sequence[int], singular: Sequence[int], epsilon: float) -> float:
    """The automatic strength from the verbs' log-probabilities without edit and at the probe."""
    start, probed = (scores[:, plural].logsumexp(-1) - scores[:, singular].logsumexp(-1)).tolist()
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
    if len(core.mean) != (d_model := Adapter(model).d_model):
        raise GrokinterpError(f"this core lives in {len(core.mean)} dimensions and the model in {d_model}; extract one from this model")
    for name, value, least in (("n_tokens", n_tokens, 1), ("top_k", top_k, 1), ("temperature", temperature, 0)):
        if not value >= least:
            raise GrokinterpError(f"{name} must be at least {least}; got {value}")
    if (n_ctx := Adapter(model).n_ctx) is not None and n_given + n_tokens > n_ctx:
        raise GrokinterpError(f"{n_given} tokens of prompt and {n_tokens} to generate do not fit into the context of {n_ctx}; ask for fewer")
