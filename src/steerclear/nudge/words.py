"""Classify the words of a prompt: things to draw, words for how it is drawn, and names."""

from __future__ import annotations

import lzma
import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

WORD_LISTS = Path(__file__).with_name("words.txt.xz")
# words for how a picture is made, not for what is in it: a photograph of something else is no substitute
MEDIUM_WORDS = frozenset(
    "drawing icon illustration image painting photo photograph picture portrait render sketch".split()
)
# what else prompts say of a picture without saying what is in it: medium, camera, quality, praise
STYLE_WORDS = MEDIUM_WORDS | frozenset(
    """
    aesthetic amazing art artistic artwork award beautiful best blur blurred blurry bokeh cartoon
    cinematic closeup color colorful colors colour colourful composition concept crisp depth design
    detail detailed details digital dramatic drawn dynamic engine epic exposure fantastic fantasy
    focus footage graphic hd hdr hyper hyperdetailed hyperrealism hyperrealistic illustrated
    intricate light lighting lit logo lora masterpiece matte minimalist octane official oil ornate
    painted perfect photographic photography photoreal photorealistic professional quality
    raytracing realism realistic rendered rendering resolution scene shading sharp shot smooth
    stunning style styled styles stylised stylized surreal symmetrical texture textured trending uhd
    ultra ultrarealistic unreal vector vibrant view vivid volumetric wallpaper watercolor
    watercolour winning
    """.split()
)
SHORTEST_STEM = 3  # letters that a word must have once its ending is cut off
ENDINGS = (
    ("s", ""),
    ("es", ""),
    ("ies", "y"),
    ("ed", ""),
    ("ed", "e"),
    ("ing", ""),
    ("ing", "e"),
    ("ly", ""),
    ("er", ""),
    ("est", ""),
    ("ness", ""),
)


class Kind(Enum):
    """What a word does in a prompt."""

    FUNCTION = "function"  # an article, a preposition
    STYLE = "style"  # how the picture is made
    THING = "thing"  # what can be drawn: "fox"
    OTHER = "other"  # any other word that is known: "golden", or a word of another language
    NAME = "name"  # what no list knows: an invented name, a person, a site


@dataclass(frozen=True)
class Word:
    """A word of a prompt.

    Attributes:
        text: as it is written.
        kind: what it does.
    """

    text: str
    kind: Kind

    @property
    def lower(self) -> str:
        """The word in lower case, as lists have it."""
        return self.text.lower()


def segments(prompt: str) -> list[list[Word]]:
    """Split a prompt at commas, stops and brackets into parts, and each part into words.

    Syntax that only steers a program is left out: weights such as "(fox:1.2)" and tags such as "<lora:x:1>".
    Names after "by" are joined: "by greg rutkowski and artgerm" is one name.
    """
    plain = re.sub(r"<[^<>]*>|:\s*[\d.]+|\bBREAK\b", " , ", prompt)
    parts = [re.findall(r"\w+(?:['’\-]\w+)*", part) for part in re.split(r"[,.;:!?|()\[\]{}\n\"“”]+", plain)]
    listed = [[Word(text, kind_of(text)) for text in part] for part in parts if part]
    return [_names_joined(part) for part in listed]


@cache
def kind_of(word: str) -> Kind:
    """Classify a word by the lists that come with the package.

    They hold common English words, with those marked that can be drawn, and the most frequent words of twenty
    other languages. An inflected form is recognised by its stem.
    """
    lower = word.lower().replace("’", "'").removesuffix("'s")
    things, others, function = word_lists()
    if lower in function:
        return Kind.FUNCTION
    if not re.search(r"[^\W\d_]", lower) or re.fullmatch(r"\d+\w", lower) or lower in STYLE_WORDS:
        return Kind.STYLE  # a number, or such as "8k"
    for form in (lower, *_stems(lower)):
        if form in things:
            return Kind.THING
        if form in others:
            return Kind.OTHER
    if "-" in lower and all(kind_of(part) is not Kind.NAME for part in lower.split("-") if part):
        return Kind.OTHER
    return Kind.NAME


@cache
def word_lists() -> tuple[Collection[str], Collection[str], Collection[str]]:
    """The lists that come with the package: things, other words, function words.

    Things are those English nouns whose usual sense is a thing, a being or a person (WordNet); other words
    are English ones (SCOWL) and the frequent ones of other languages (wordfreq). NOTICE names the sources.
    """
    things, others, foreign, function = lzma.decompress(WORD_LISTS.read_bytes()).decode().splitlines()
    return (
        frozenset(things.split()),
        frozenset((*others.split(), *foreign.split())),
        frozenset(function.split()),
    )


def _stems(word: str) -> list[str]:
    """What a word may be an inflected form of."""
    stems = [word.removesuffix(ending) + base for ending, base in ENDINGS if word.endswith(ending)]
    doubled = [stem[:-1] for stem in stems if len(stem) > 2 and stem[-1] == stem[-2]]  # running, runn, run
    return [stem for stem in (*stems, *doubled) if len(stem) >= SHORTEST_STEM]


def _names_joined(part: list[Word]) -> list[Word]:
    """A part in which "by" before a name, and capitalised words beside one, belong to the name."""
    for i, word in enumerate(part):
        if word.lower == "by" and any(w.kind is Kind.NAME for w in part[i + 1 :]):
            part = [*part[:i], *(Word(w.text, Kind.NAME) for w in part[i:])]
            break
    near = [
        any(part[j].kind is Kind.NAME for j in (i - 1, i + 1) if 0 <= j < len(part)) for i in range(len(part))
    ]
    return [
        Word(word.text, Kind.NAME) if beside and word.text.istitle() and not part_is_title(part) else word
        for word, beside in zip(part, near, strict=True)
    ]


def part_is_title(part: list[Word]) -> bool:
    """Whether nearly every word of a part is capitalised, which then says nothing of a single one."""
    return sum(word.text[:1].isupper() for word in part) > 0.6 * len(part)
