"""A small English with number agreement: word lists, five frames that set a verb apart from its noun, and a parser.

The frames are those of the agreement experiments of "Transformers converge to invariant algorithmic cores" (arXiv 2602.22600); all words are
chosen here. Sentences are sampled to train a model on, prompts are sentences up to their verb, and the parser says what a model has written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from grokinterp.errors import GrokinterpError, unknown_name


class Noun(NamedTuple):
    """A countable noun."""

    singular: str
    plural: str

    def form(self, plural: bool) -> str:
        """One of the two."""
        return self.plural if plural else self.singular


class Verb(NamedTuple):
    """The two number forms of one verb in one tense."""

    singular: str
    plural: str


VERBS = (Verb("is", "are"), Verb("was", "were"))
"""Present and past of the copula, whose four logits make the margin."""

_REGULAR = """
key box cabinet book table chair door window wall lamp picture letter card coin ring bottle cup plate bag basket desk clock map car truck
boat ship plane train bike wheel engine bridge road house tower garden tree flower river lake mountain hill stone rock dog cat horse cow bird
chicken duck rabbit lion bear snake spider doctor nurse teacher student farmer driver pilot soldier officer lawyer judge king queen prince guard
actor singer dancer artist writer author player manager worker builder engineer scientist boy girl friend neighbor guest visitor customer toy ball
drum guitar phone camera computer screen machine tool rope tent flag button shirt shoe hat coat apple cake candle mirror painting statue poster
ticket label report file folder"""
_IRREGULAR = {"box": "boxes", "bus": "buses", "glass": "glasses", "branch": "branches", "coach": "coaches"} | {
    "shelf": "shelves", "leaf": "leaves", "knife": "knives", "wolf": "wolves", "child": "children", "man": "men", "woman": "women"
}  # fmt: skip
NOUNS = tuple(Noun(word, _IRREGULAR.get(word, word + "s")) for word in [*_REGULAR.split(), *sorted(_IRREGULAR.keys() - {"box"})])

_LINKS = "near;behind;beside;above;below;under;beyond;with;by;to;next to;in front of;across from;close to"
_PAST = "hid covered blocked touched followed held missed passed crossed hit saw liked found chased carried faced"
_QUALITIES = "old new big small red blue clean dirty heavy light strong weak quiet loud safe famous broken ready late gone"
PREPOSITIONS = tuple(_LINKS.split(";"))
ADVERBIALS = ("over there", "out here", "in fact", "after all", "as ever")
RELATIVE_VERBS = tuple(_PAST.split())
ADJECTIVES = tuple(_QUALITIES.split())
PREFIX = "in the past ,"

FRAMES = {
    "plain": "the {head} {preposition} the {attractor}",
    "fronted": "{preposition} the {attractor} , the {head}",
    "trailing": "the {head} {preposition} the {attractor} {adverbial}",
    "there": "there {head} {preposition} the {attractor}",
    "relative": "the {head} that the {attractor} {relative}",
}
"""Subjects by the name of their frame; "there" is ungrammatical English on purpose, as in the paper."""
BARE = "the {head}"
MISMATCH = 0.25
"""Share of attractors that differ from their head in number. They are the fewer in English, too, which teaches a model to lean on them."""


@dataclass(frozen=True)
class Subject:
    """Everything before the verb: a head noun that the verb agrees with, and an attractor that it does not.

    Attributes:
        frame: a name of `FRAMES`, or "bare" for a head without attractor.
        head: the noun.
        plural: its number.
        attractor: the other noun, None in a bare frame.
        attractor_plural: its number.
        link: the preposition, or the verb of the relative clause; "" in a bare frame.
        adverbial: what trails, "" elsewhere.
        past: whether it opens with "in the past ,".
    """

    frame: str
    head: Noun
    plural: bool
    attractor: Noun | None = None
    attractor_plural: bool = False
    link: str = ""
    adverbial: str = ""
    past: bool = False

    def __str__(self) -> str:
        template = BARE if self.frame == "bare" else FRAMES[self.frame]
        words = {"head": self.head.form(self.plural), "preposition": self.link, "relative": self.link, "adverbial": self.adverbial}
        attractor = "" if self.attractor is None else self.attractor.form(self.attractor_plural)
        return (PREFIX + " " if self.past else "") + template.format(**words, attractor=attractor)


@dataclass(frozen=True)
class Sentence:
    """A subject, a verb and what is said: all that the grammar can say.

    Attributes:
        subject: everything before the verb.
        verb: "is", "are", "was" or "were".
        predicate: "[not] [very] adjective", or "preposition the noun".
    """

    subject: Subject
    verb: str
    predicate: str

    @property
    def verb_plural(self) -> bool:
        """The verb's number."""
        return any(self.verb == verb.plural for verb in VERBS)

    @property
    def agrees(self) -> bool:
        """Whether the verb has the number of the head."""
        return self.verb_plural == self.subject.plural

    def __str__(self) -> str:
        return f"{self.subject} {self.verb} {self.predicate} ."


Item = TypeVar("Item")


def pick(items: Sequence[Item], rng: np.random.Generator) -> Item:
    """One of them, all equally likely."""
    return items[int(rng.integers(len(items)))]


def sample_subject(frame: str, plural: bool, attractor_plural: bool, past: bool, nouns: Sequence[Noun], rng: np.random.Generator) -> Subject:
    """A subject of a given frame and numbers with random words; head and attractor are different nouns.

    Raises:
        GrokinterpError: an unknown frame.
    """
    if frame == "bare":
        return Subject(frame, pick(nouns, rng), plural, past=past)
    if frame not in FRAMES:
        raise unknown_name("frame", frame, FRAMES)
    head, attractor = (nouns[int(i)] for i in rng.choice(len(nouns), 2, replace=False))
    link = pick(RELATIVE_VERBS if frame == "relative" else PREPOSITIONS, rng)
    return Subject(frame, head, plural, attractor, attractor_plural, link, pick(ADVERBIALS, rng) if frame == "trailing" else "", past)


def sample_sentence(nouns: Sequence[Noun], rng: np.random.Generator) -> Sentence:
    """A grammatical sentence with random frame, numbers and words; a quarter of all attractors differ from their head in number.

    A quarter opens with "in the past ," and has a past verb; of the others a quarter has.
    """
    frame = pick(["bare", *FRAMES], rng)
    plural, mismatch, past = (bool(true) for true in rng.random(3) < (0.5, MISMATCH, 0.25))
    subject = sample_subject(frame, plural, plural ^ mismatch, past, nouns, rng)
    verb = VERBS[int(past or rng.random() < 0.25)]
    return Sentence(subject, verb.plural if plural else verb.singular, _sample_predicate(nouns, rng))


def _sample_predicate(nouns: Sequence[Noun], rng: np.random.Generator) -> str:
    if rng.random() < 0.25:
        return f"{pick(PREPOSITIONS, rng)} the {pick(nouns, rng).form(rng.random() < 0.5)}"
    return ("not " if rng.random() < 0.3 else "") + ("very " if rng.random() < 0.3 else "") + pick(ADJECTIVES, rng)


def vocabulary(nouns: Sequence[Noun] = NOUNS) -> list[str]:
    """Every word and mark of the grammar with these nouns, sorted."""
    phrases = [PREFIX, "the there that not very , .", *PREPOSITIONS, *ADVERBIALS, *RELATIVE_VERBS, *ADJECTIVES]
    forms = [form for pair in (*VERBS, *nouns) for form in pair]
    return sorted({word for phrase in [*phrases, *forms] for word in phrase.split()})


def words_of(text: str) -> list[str]:
    """A text as the grammar's words: lower case, marks apart."""
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*|[^\w\s]", text.lower())


def spelled(words: str) -> str:
    """The grammar's words as English is written: a capital first, no space before a mark."""
    text = re.sub(r" ([,.])", r"\1", words)
    return text[:1].upper() + text[1:]


def parse(text: str) -> Sentence:
    """The one sentence that a text is, whether or not its verb agrees.

    Args:
        text: in any case, its marks apart or not.

    Raises:
        GrokinterpError: not a sentence of the grammar; the message names the first word that does not fit.
    """
    reader = _Reader(words_of(text))
    past = reader.phrase([PREFIX]) is not None
    subject = _read_subject(reader, past)
    verbs = [form for verb in (VERBS[1:] if past else VERBS) for form in verb]
    sentence = Sentence(subject, reader.need(verbs, "a past form of be" if past else "a form of be"), _read_predicate(reader))
    reader.need(["."], "a full stop")
    reader.end()
    return sentence


def sentences_of(text: str) -> list[str]:
    """The finished sentences of a text, each with its full stop; what is cut off at the end is left out."""
    return [part.strip() + " ." for part in text.split(".")[:-1]]


class _Reader:
    """A cursor over words that takes what it is asked for or leaves it."""

    def __init__(self, words: list[str]) -> None:
        self.words, self.at = words, 0

    def phrase(self, phrases: Sequence[str]) -> str | None:
        """The longest of these phrases that comes next, taken; None if none does."""
        for phrase in sorted(phrases, key=len, reverse=True):
            parts = phrase.split()
            if self.words[self.at : self.at + len(parts)] == parts:
                self.at += len(parts)
                return phrase
        return None

    def need(self, phrases: Sequence[str], what: str) -> str:
        found = self.phrase(phrases)
        if found is None:
            raise self.unexpected(what)
        return found

    def noun(self) -> tuple[Noun, bool]:
        """A noun and whether it is plural."""
        word = self.words[self.at] if self.at < len(self.words) else ""
        if word not in _FORMS:
            raise self.unexpected("a noun")
        self.at += 1
        return _FORMS[word]

    def end(self) -> None:
        if self.at < len(self.words):
            raise self.unexpected("nothing more")

    def unexpected(self, what: str) -> GrokinterpError:
        word = repr(self.words[self.at]) if self.at < len(self.words) else "the end"
        return GrokinterpError(f"not a sentence of the grammar: expected {what} and found {word} after {' '.join(self.words[: self.at])!r}")


_FORMS = {form: (noun, form == noun.plural) for noun in NOUNS for form in noun}


def _read_subject(reader: _Reader, past: bool) -> Subject:
    def the_noun(what: str) -> tuple[Noun, bool]:
        reader.need(["the"], what)
        return reader.noun()

    if fronted := reader.phrase(PREPOSITIONS):
        attractor, head = the_noun("a noun phrase"), (reader.need([","], "a comma"), the_noun("a noun phrase"))[1]
        return Subject("fronted", *head, *attractor, fronted, past=past)
    bare_noun = reader.phrase(["there"]) is not None
    head = reader.noun() if bare_noun else the_noun("a subject")
    if bare_noun:
        preposition = reader.need(PREPOSITIONS, "a preposition")
        return Subject("there", *head, *the_noun("a noun phrase"), preposition, past=past)
    if reader.phrase(["that"]):
        attractor = the_noun("a noun phrase")
        return Subject("relative", *head, *attractor, reader.need(RELATIVE_VERBS, "a verb of a relative clause"), past=past)
    if link := reader.phrase(PREPOSITIONS):
        attractor, adverbial = the_noun("a noun phrase"), reader.phrase(ADVERBIALS) or ""
        return Subject("trailing" if adverbial else "plain", *head, *attractor, link, adverbial, past)
    return Subject("bare", *head, past=past)


def _read_predicate(reader: _Reader) -> str:
    start = reader.at
    if reader.phrase(PREPOSITIONS):
        reader.need(["the"], "a noun phrase")
        reader.noun()
    else:
        reader.phrase(["not"])
        reader.phrase(["very"])
        reader.need(ADJECTIVES, "an adjective or a place")
    return " ".join(reader.words[start : reader.at])
