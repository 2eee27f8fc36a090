"""Subject-verb agreement prompts: a head noun, an attractor of the other number, and a verb still to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from grokinterp.checks import shown
from grokinterp.errors import GrokinterpError, unknown_name
from grokinterp.language.grammar import FRAMES, NOUNS, VERBS, Noun, Subject, Verb, sample_subject, spelled
from grokinterp.shapes import ExampleMask, Tokens

if TYPE_CHECKING:
    import pandas as pd

    from grokinterp.ace.core import Core

Ends = Int[Tensor, "example"]
VerbForms = Int[Tensor, "example form"]
Half = Literal["extraction", "test"]

_TRIES = 200  # draws for one new prompt before the words count as used up
_LARGEST = 1 << 26  # tokens of all prompts, padded: half a GiB (chosen here)


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts that end before a verb, with the number that it should have.

    Attributes:
        name: where they come from.
        texts: the prompts.
        tokens: [example, position], int64, without a beginning-of-text token; behind its end a prompt repeats its last token, which
            nothing reads in a causal model.
        ends: position of each prompt's last token.
        plural: whether the head is plural.
        extraction: which prompts cores are extracted from; the others are for testing.
        singular_verbs: token of each singular form, [example, form]; the first form is the one that fits the prompt's tense.
        plural_verbs: token of each plural form, in the same order.
        words: text of each verb's token.
        frames: name of each prompt's frame, "" where unknown.
        heads: singular of each head noun, "" where unknown.
        dropped: words of the lists that the tokenizer does not hold as one token.
    """

    name: str
    texts: tuple[str, ...]
    tokens: Tokens
    ends: Ends
    plural: ExampleMask
    extraction: ExampleMask
    singular_verbs: VerbForms
    plural_verbs: VerbForms
    words: Mapping[int, str]
    frames: tuple[str, ...]
    heads: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    @property
    def n_vocab(self) -> int:
        """The smallest vocabulary that holds every token here."""
        return 1 + max(int(ids.max()) for ids in (self.tokens, self.verbs))

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        plural, extraction = int(self.plural.sum()), int(self.extraction.sum())
        return f"Prompts({self.name}: {len(self):,}, {plural:,} with a plural head, {extraction:,} to extract from)"

    @cached_property
    def verbs(self) -> Int[Tensor, "verb"]:
        """Every verb's token once, ascending."""
        verbs: Tensor = torch.unique(torch.cat([self.singular_verbs, self.plural_verbs]))
        return verbs

    @cached_property
    def signs(self) -> Float[Tensor, "example verb"]:
        """1 for a prompt's plural verbs, −1 for its singular ones, 0 for verbs of other prompts; float64."""
        signs = torch.zeros(len(self), len(self.verbs), dtype=torch.float64)
        for forms, sign in ((self.plural_verbs, 1.0), (self.singular_verbs, -1.0)):
            signs.scatter_(1, torch.searchsorted(self.verbs, forms), sign)
        return signs

    def take(self, examples: Int[Tensor, "chosen"]) -> Prompts:
        """Some of the prompts, without positions that none of them reaches."""
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                chosen[field.name] = value[examples]
            elif field.name in ("texts", "frames", "heads"):
                chosen[field.name] = tuple(value[int(i)] for i in examples)
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

        singular, plural = ([self.words[int(token)] for token in forms[:, 0]] for forms in (self.singular_verbs, self.plural_verbs))
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
    nouns: Sequence[Noun] = NOUNS,
    verbs: Sequence[Verb] = VERBS,
) -> Prompts:
    """Prompts in five frames whose head and attractor always differ in number (arXiv 2602.22600; the words are chosen here).

    Half are singular and half for testing; in each half of the data half open with "In the past,", and frames, numbers and tenses are
    balanced. Head and attractor are single tokens with a space before them.

    Args:
        tokenizer: with ``encode(text, add_special_tokens=False)``.
        n: number of different prompts, a multiple of 4 (paper: 1,200).
        seed: of the generator that draws the words.
        held_out_nouns: give the two halves nouns of their own.
        held_out_frames: frames that only the testing half has; it has no others then. () for all frames in both.
        nouns: to draw from.
        verbs: whose logits are read, present first and past second.

    Raises:
        GrokinterpError: a verb form that is not one token, a frame that does not exist, an n that cannot be halved twice, fewer words
            than the prompts need.
    """
    if n < 8 or n % 4:
        raise GrokinterpError(f"n prompts fall into two halves of two numbers, so n is a multiple of 4 and at least 8; got {n}")
    for frame in held_out_frames:
        if frame not in FRAMES:
            raise unknown_name("frame", frame, FRAMES)
    shown = [frame for frame in FRAMES if frame not in held_out_frames]
    if not shown:
        raise GrokinterpError("every frame is held out, so that none is left to extract from; hold out fewer")
    rng = np.random.default_rng(seed)
    kept, dropped = _single_tokens(tokenizer, nouns)
    kept = [kept[int(i)] for i in rng.permutation(len(kept))]
    halves = (kept[::2], kept[1::2]) if held_out_nouns else (kept, kept)
    if min(len(half) for half in halves) < 2:
        raise GrokinterpError(f"each half needs 2 nouns whose forms are one token each; {len(kept)} of {len(nouns)} are, under this tokenizer")
    subjects: dict[str, Subject] = {}
    for own, frames in zip(halves, (shown, list(held_out_frames) or shown), strict=True):
        cells = [(past, frame, plural) for past, frame, plural in product((False, True), frames, (False, True))]
        for i in range(n // 2):
            past, frame, plural = cells[i % len(cells)]
            subject = _new(subjects, lambda f=frame, p=plural, b=past, w=own: sample_subject(f, p, not p, b, w, rng))
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
        heads=tuple(subject.head.singular for subject in drawn),
        dropped=dropped,
    )


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text as the model sees it, with nothing added in front or behind.

    Raises:
        GrokinterpError: no tokenizer; a text that is empty, ends in a space, which belongs to the next word, or has a word that the tokenizer
            does not know.
    """
    if tokenizer is None:
        raise GrokinterpError("this model has no tokenizer; set model.tokenizer, or load it with load_model")
    if not text.strip():
        raise GrokinterpError("the prompt is empty; pass at least one word")
    if text[-1] in " \t\u00a0":
        raise GrokinterpError(f"the prompt {shown(text)} ends in a space, which the next word brings along; take it off")
    ids = [int(token) for token in tokenizer.encode(text, add_special_tokens=False)]
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is not None and unknown in ids and str(tokenizer.unk_token) not in text:
        raise GrokinterpError(f"{shown(text)} has a word that this tokenizer does not know; choose other words")
    return ids


def verb_ids(tokenizer: Any, verbs: Sequence[Verb]) -> dict[str, int]:
    """The token of each verb form, by form, with a space before it.

    Raises:
        GrokinterpError: a form that is not one token.
    """
    found: dict[str, int] = {}
    for form in {form: None for verb in verbs for form in verb}:
        ids = token_ids(tokenizer, " " + form)
        if len(ids) != 1:
            raise GrokinterpError(f"the verb {' ' + form!r} is {len(ids)} tokens under this tokenizer, and a margin reads one; choose other verbs")
        found[form] = ids[0]
    return found


def prompts_of(
    name: str,
    texts: Sequence[str],
    plural: Sequence[bool],
    extraction: np.ndarray,
    verbs: Sequence[Sequence[Verb]],
    tokenizer: Any,
    **rest: Any,
) -> Prompts:
    """Prompts from their texts, numbers, halves and verbs; the arguments are those of `Prompts`.

    Raises:
        GrokinterpError: what `token_ids` and `verb_ids` refuse; a token that is a verb of both numbers; prompts of such different length
            that padding would fill the memory.
    """
    rows = [token_ids(tokenizer, text) for text in texts]
    longest = max(len(row) for row in rows)
    if len(rows) * longest > _LARGEST:
        raise GrokinterpError(f"{len(rows):,} prompts of up to {longest:,} tokens do not fit into memory side by side; shorten the longest")
    pairs = {tuple(own): None for own in verbs}
    token_of = verb_ids(tokenizer, [verb for own in pairs for verb in own])
    for own in pairs:
        singular, plural_forms = ({token_of[form] for form in forms} for forms in zip(*own, strict=True))
        if singular & plural_forms:
            forms = sorted(form for verb in own for form in verb if token_of[form] in singular & plural_forms)
            raise GrokinterpError(f"the verbs {', '.join(forms)} are one token in both numbers under this tokenizer; choose other verbs")
    return Prompts(
        name=name,
        texts=tuple(texts),
        tokens=torch.tensor([row + row[-1:] * (longest - len(row)) for row in rows]),
        ends=torch.tensor([len(row) - 1 for row in rows]),
        plural=torch.tensor(list(plural)),
        extraction=torch.from_numpy(extraction),
        singular_verbs=torch.tensor([[token_of[verb.singular] for verb in own] for own in verbs]),
        plural_verbs=torch.tensor([[token_of[verb.plural] for verb in own] for own in verbs]),
        words={token: " " + form for form, token in token_of.items()},
        **rest,
    )


def _ids(tokenizer: Any, text: str) -> list[int] | None:
    """The tokens of words of the lists; None where the tokenizer does not know them."""
    try:
        return token_ids(tokenizer, text)
    except GrokinterpError:
        if tokenizer is None:
            raise
        return None


def _single_tokens(tokenizer: Any, nouns: Sequence[Noun]) -> tuple[list[Noun], tuple[str, ...]]:
    kept = [noun for noun in nouns if all(len(_ids(tokenizer, " " + form) or ()) == 1 for form in noun)]
    return kept, tuple(noun.singular for noun in nouns if noun not in kept)


def _new(subjects: Mapping[str, Subject], draw: Any) -> Subject:
    for _ in range(_TRIES):
        subject: Subject = draw()
        if str(subject) not in subjects:
            return subject
    raise GrokinterpError(f"these words make no more than about {len(subjects)} different prompts; ask for fewer, or give more nouns")
