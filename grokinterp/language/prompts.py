"""Subject-verb agreement prompts: a head noun, an attractor of the other number, and a verb still to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.language.grammar import FRAMES, NOUNS, VERBS, Noun, Subject, Verb, sample_subject, spelled
from grokinterp.language.spelling import ids_in_front, spellings, token_ids
from grokinterp.models.forms import Forms
from grokinterp.shapes import ExampleMask, Tokens

if TYPE_CHECKING:
    import pandas as pd

    from grokinterp.ace.core import Core

Ends = Int[Tensor, "example"]
VerbForms = Int[Tensor, "example form"]
Half = Literal["extraction", "test"]
Attractor = Literal["none", "same", "other"]
ATTRACTORS: tuple[Attractor, ...] = get_args(Attractor)
"""No second noun; one of the head's number; one of the other number."""

_TRIES = 200  # draws for one new prompt before the words count as used up
_LARGEST = 1 << 26  # tokens of all prompts, padded: half a GiB (chosen here)
_ENOUGH = 0.5  # share of nouns of one token from which on no longer ones are drawn (chosen here)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts that end before a verb, with the number that it should have.

    Attributes:
        name: where they come from.
        texts: the prompts.
        tokens: [example, position], int64; after its end a prompt repeats its last token, which nothing reads in a causal model.
        ends: position of each prompt's last token.
        plural: whether the head is plural.
        extraction: which prompts cores are extracted from; the others are for testing.
        forms: the tokens of each verb form, ascending.
        words: text of each form, with the space before it, in the same order.
        singular_verbs: the singular forms that may follow, as places in `words`, [example, form]; the first fits the prompt's tense.
        plural_verbs: the plural ones, in the same order.
        frames: name of each prompt's frame, "" where unknown.
        heads: singular of each head noun, "" where unknown.
        attractors: for each prompt, which of `ATTRACTORS` stands between head and verb; "" where unknown.
        bos: whether every prompt begins with the tokenizer's beginning-of-text token.
        dropped: words of the lists that were left out, each with the reason.
    """

    name: str
    texts: tuple[str, ...]
    tokens: Tokens
    ends: Ends
    plural: ExampleMask
    extraction: ExampleMask
    forms: Forms
    words: tuple[str, ...]
    singular_verbs: VerbForms
    plural_verbs: VerbForms
    frames: tuple[str, ...]
    heads: tuple[str, ...]
    attractors: tuple[str, ...] = ()
    bos: bool = False
    dropped: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_vocab(self) -> int:
        """The smallest vocabulary that holds every token here."""
        return 1 + max(int(self.tokens.max()), *(token for form in self.forms.tokens for token in form))

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        plural, extraction = int(self.plural.sum()), int(self.extraction.sum())
        return f"Prompts({self.name}: {len(self):,}, {plural:,} with a plural head, {extraction:,} to extract from)"

    @property
    def verbs(self) -> Int[Tensor, "verb"]:
        """The first token of every verb form: the whole of it where `forms` are of one token each."""
        return self.forms.first

    @property
    def signs(self) -> Float[Tensor, "example verb"]:
        """1 for a prompt's plural verbs, −1 for its singular ones, 0 for verbs of other prompts; float64."""
        signs = torch.zeros(len(self), len(self.forms), dtype=torch.float64)
        for verbs, sign in ((self.plural_verbs, 1.0), (self.singular_verbs, -1.0)):
            signs.scatter_(1, verbs, sign)
        return signs

    def take(self, examples: Int[Tensor, "chosen"]) -> Prompts:
        """Some of the prompts, without positions that none of them reaches."""
        chosen: dict[str, Any] = {}
        for own in fields(self):
            value = getattr(self, own.name)
            if isinstance(value, Tensor):
                chosen[own.name] = value[examples]
            elif own.name in ("texts", "frames", "heads", "attractors") and value:
                chosen[own.name] = tuple(value[int(i)] for i in examples)
        chosen["tokens"] = chosen["tokens"][:, : int(chosen["ends"].max()) + 1]
        return replace(self, **chosen)

    def half(self, half: Half) -> Prompts:
        """The prompts that cores are extracted from, or those that they are tested on.

        Raises:
            GrokinterpError: neither "extraction" nor "test".
        """
        if half not in ("extraction", "test"):
            raise unknown_name("half", half, ("extraction", "test"))
        return self.take(torch.nonzero(self.extraction == (half == "extraction")).squeeze(1))

    def extract_core(self, model: Any, hook: str, *, rank: int | None, energy: float, batch_size: int | None) -> Core:
        """The agreement core at a hook, see `agreement_cores`; what ``ace.extract(model, prompts, hook)`` returns."""
        from grokinterp.language.agreement import BATCH, agreement_cores

        return agreement_cores(model, self, [hook], rank=rank, energy=energy, batch_size=batch_size or BATCH)[hook]

    def table(self) -> pd.DataFrame:
        """Minimal pairs, as agreement test suites have them: a prompt and the two verb forms of which one goes on.

        Returns:
            Columns ``prompt``, ``number``, ``singular_verb``, ``plural_verb`` ``right``, ``wrong`` (the whole strings), ``half``,
            ``frame``, ``head``; `read_prompts` reads them back.
        """
        import pandas as pd

        singular, plural = ([self.words[int(verb)] for verb in verbs[:, 0]] for verbs in (self.singular_verbs, self.plural_verbs))
        is_plural = self.plural.tolist()
        table: pd.DataFrame = pd.DataFrame(
            {
                "prompt": self.texts,
                "number": ["plural" if p else "singular" for p in is_plural],
                "singular_verb": [verb.strip() for verb in singular],
                "plural_verb": [verb.strip() for verb in plural],
                "right": [text + (b if p else a) for text, a, b, p in zip(self.texts, singular, plural, is_plural, strict=True)],
                "wrong": [text + (a if p else b) for text, a, b, p in zip(self.texts, singular, plural, is_plural, strict=True)],
                "half": ["extraction" if e else "test" for e in self.extraction.tolist()],
                "frame": self.frames,
                "head": self.heads,
            }
        )
        return table


def agreement(
    tokenizer: Any,
    n: int = 1_200,
    seed: int = 0,
    *,
    held_out_nouns: bool = False,
    held_out_frames: Sequence[str] = (),
    attractors: Sequence[Attractor] = ("other",),
    nouns: Sequence[Noun] = NOUNS,
    verbs: Sequence[Verb] = VERBS,
    single_tokens: bool | None = None,
    bos: bool | None = None,
) -> Prompts:
    """Prompts in five frames whose head and attractor always differ in number (arXiv 2602.22600; the words are chosen here).

    Half are singular and half for testing; in each half of the data half open with "In the past,", and frames, numbers and tenses are
    balanced. Head and attractor are single tokens where the tokenizer has at least half of the nouns as such.

    Args:
        tokenizer: with ``encode(text, add_special_tokens=False)``.
        n: number of different prompts, a multiple of 4 (paper: 1,200) and of 4 for each kind of attractor.
        seed: of the generator that draws the words.
        held_out_nouns: give the two halves nouns of their own.
        held_out_frames: frames that only the testing half has; it has no others then. () for all frames in both.
        attractors: which of `ATTRACTORS`, all alike often (paper: "other" alone); "none" is the head noun by itself, and has no frames.
        nouns: to draw from.
        verbs: whose scores are read, present first and past second.
        single_tokens: draw only nouns whose forms are one token each; None where at least half of them are.
        bos: begin every prompt with the beginning-of-text token; None as the tokenizer does by itself.

    Raises:
        GrokinterpError: verbs that cannot be told apart, a frame or kind of attractor that does not exist, an n that cannot be halved twice, fewer
            words than the prompts need.
    """
    if n < 8 or n % 4:
        raise GrokinterpError(f"n prompts fall into two halves of two numbers, so n is a multiple of 4 and at least 8; got {n}")
    for kind in attractors:
        if kind not in ATTRACTORS:
            raise unknown_name("kind of attractor", kind, ATTRACTORS)
    if not attractors or n % (4 * len(attractors)):
        raise GrokinterpError(f"n is a multiple of 4 for each of {len(attractors)} kinds of attractor, so that they are alike often; got {n}")
    for frame in held_out_frames:
        if frame not in FRAMES:
            raise unknown_name("frame", frame, FRAMES)
    shown = [frame for frame in FRAMES if frame not in held_out_frames]
    if not shown:
        raise GrokinterpError("every frame is held out, so that none is left to extract from; hold out fewer")
    rng = np.random.default_rng(seed)
    kept, dropped = _usable(tokenizer, nouns, single_tokens)
    kept = [kept[int(i)] for i in rng.permutation(len(kept))]
    halves = (kept[::2], kept[1::2]) if held_out_nouns else (kept, kept)
    if min(len(half) for half in halves) < 2:
        way = "" if single_tokens is not True else "; single_tokens=False takes those of several"
        raise GrokinterpError(f"each half needs 2 nouns; {len(kept)} of {len(nouns)} can be used under this tokenizer{way}")
    subjects: dict[str, Subject] = {}
    for own, frames in zip(halves, (shown, list(held_out_frames) or shown), strict=True):
        for kind in attractors:
            cells = list(product((False, True), ["bare"] if kind == "none" else frames, (False, True)))
            for i in range(n // 2 // len(attractors)):
                past, frame, plural = cells[i % len(cells)]
                other = plural ^ (kind == "other")
                subject = _new(subjects, lambda f=frame, p=plural, o=other, b=past, w=own: sample_subject(f, p, o, b, w, rng))
                subjects[str(subject)] = subject
    drawn = list(subjects.values())
    return prompts_of(
        "agreement",
        [spelled(text) for text in subjects],
        [subject.plural for subject in drawn],
        np.arange(n) < n // 2,
        [tuple(verbs[::-1] if subject.past else verbs) for subject in drawn],
        tokenizer,
        frames=tuple(subject.frame for subject in drawn),
        bos=bos,
        heads=tuple(subject.head.singular for subject in drawn),
        attractors=tuple(_kind(subject) for subject in drawn),
        dropped=dropped,
    )


def prompts_of(
    name: str,
    texts: Sequence[str],
    plural: Sequence[bool],
    extraction: np.ndarray,
    verbs: Sequence[Sequence[Verb]],
    tokenizer: Any,
    *,
    bos: bool | None = None,
    **rest: Any,
) -> Prompts:
    """Prompts from their texts, numbers, halves and verbs; the arguments are those of `Prompts`, and ``bos=None`` is as the tokenizer does by itself.

    Raises:
        GrokinterpError: what `token_ids`, `ids_in_front` and `spellings` refuse; verbs that are the same in both numbers; prompts of such different
            length that padding would fill the memory.
    """
    first = ids_in_front(tokenizer, bos)
    rows = [first + token_ids(tokenizer, text) for text in texts]
    longest = max(len(row) for row in rows)
    if len(rows) * longest > _LARGEST:
        raise GrokinterpError(f"{len(rows):,} prompts of up to {longest:,} tokens do not fit into memory side by side; shorten the longest")
    tokens_of = spellings(tokenizer, texts, [[form for verb in own for form in verb] for own in verbs])
    for own in {tuple(own): None for own in verbs}:
        singular, plural_forms = ({tokens_of[form] for form in forms} for forms in zip(*own, strict=True))
        if singular & plural_forms:
            forms = sorted(form for verb in own for form in verb if tokens_of[form] in singular & plural_forms)
            raise GrokinterpError(f"the verbs {', '.join(forms)} are the same tokens in both numbers under this tokenizer; choose other verbs")
    words = sorted(tokens_of, key=lambda form: tokens_of[form])
    place = {tokens_of[form]: i for i, form in enumerate(words)}  # forms that are the same tokens share a place
    return Prompts(
        name=name,
        texts=tuple(texts),
        tokens=torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows]),
        ends=torch.tensor([len(row) - 1 for row in rows]),
        plural=torch.tensor(list(plural)),
        extraction=torch.from_numpy(extraction),
        forms=Forms(tuple(tokens_of[form] for form in words)),
        words=tuple(" " + form for form in words),
        singular_verbs=torch.tensor([[place[tokens_of[verb.singular]] for verb in own] for own in verbs]),
        plural_verbs=torch.tensor([[place[tokens_of[verb.plural]] for verb in own] for own in verbs]),
        bos=bool(first),
        **rest,
    )


def _kind(subject: Subject) -> Attractor:
    if subject.attractor is None:
        return "none"
    return "same" if subject.attractor_plural == subject.plural else "other"


def _usable(tokenizer: Any, nouns: Sequence[Noun], single_tokens: bool | None) -> tuple[list[Noun], dict[str, str]]:
    """Nouns that can be drawn, and those that were left out with the reason."""
    ids = {form: _ids(tokenizer, form) for noun in nouns for form in noun}
    dropped = {noun.singular: "not known to the tokenizer" for noun in nouns if any(ids[form] is None for form in noun)}
    lengths = {noun: max(len(ids[form] or ()) for form in noun) for noun in nouns if noun.singular not in dropped}
    single = [noun for noun, length in lengths.items() if length == 1]
    if single_tokens is False or (single_tokens is None and len(single) < _ENOUGH * len(nouns)):
        return list(lengths), dropped
    return single, dropped | {noun.singular: f"{length} tokens" for noun, length in lengths.items() if length > 1}


def _ids(tokenizer: Any, word: str) -> list[int] | None:
    """The tokens of a word inside a text; None where the tokenizer does not know it."""
    try:
        return list(spellings(tokenizer, ["the"], [[word]])[word])
    except GrokinterpError:
        if tokenizer is None:
            raise
        return None


def _new(subjects: Mapping[str, Subject], draw: Any) -> Subject:
    for _ in range(_TRIES):
        subject: Subject = draw()
        if str(subject) not in subjects:
            return subject
    raise GrokinterpError(f"these words make no more than about {len(subjects)} different prompts; ask for fewer, or give more nouns")
