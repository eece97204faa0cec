"""Checking prompts against a block-list before anything is denoised, word for word or nearly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steerclear.errors import ConfigError
from steerclear.filters.base import detection
from steerclear.library.files import read_text
from steerclear.types import Detection

SHORTEST_FUZZY = 6  # characters; in a shorter entry one changed letter makes another word


@dataclass(frozen=True)
class PromptFilter:
    """Flags prompts that hold an entry of a block-list, or nearly hold it.

    The score is 1 where a prompt holds an entry as a phrase, whatever its case, accents, punctuation and
    width of letters. Else it is the normalised edit similarity, in [0, 1], of the entry and the part of the
    prompt that is most like it, or of the entry and the whole prompt where the prompt is shorter. The fuzzy
    comparison needs the extra `prompt` (RapidFuzz).

    A flagged prompt is not refused: its image is steered like any other, and its own picture is never handed
    out. Where every prompt of a call is flagged, the first pass ends after one step.

    Attributes:
        entries: (id, text) pairs; the id of the best match, which may be a protected item's, is named as
            matched.
        threshold: flagged from this score on; with 1.0 only exact matches are.
        name: the filter's name.

    Raises:
        ConfigError: for no entry at all, which would pass every prompt, or a text without letters.
    """

    entries: tuple[tuple[str, str], ...]
    threshold: float = 0.9
    name: str = "prompt"

    def __post_init__(self) -> None:
        if not self.entries:
            raise ConfigError(
                f"the block-list of the filter {self.name!r} has no entry: it would pass every prompt; give "
                "it texts, or leave the filter out"
            )
        empty = [key for key, text in self.entries if not normalised(text)]
        if empty:
            raise ConfigError(
                f"the block-list entry {empty[0]!r} has no letters: it would match every prompt; remove it"
            )

    @classmethod
    def of(cls, texts: Sequence[str], threshold: float = 0.9) -> PromptFilter:
        """Make a filter of texts; each text is its own id.

        Args:
            texts: the block-list.
            threshold: see the class.
        """
        return cls(tuple((text, text) for text in texts), threshold)

    @classmethod
    def from_file(cls, file: str | Path, threshold: float = 0.9) -> PromptFilter:
        """Read a block-list with one text per line; blank lines and lines that start with # are skipped.

        Args:
            file: a text file, UTF-8.
            threshold: see the class.

        Raises:
            InputError: if the file cannot be read.
            ConfigError: for a text without letters, or a file without texts.
        """
        lines = read_text(file, "block-list").splitlines()
        return cls.of([line.strip() for line in lines if line.strip() and line[0] != "#"], threshold)

    def check_prompts(self, prompts: Sequence[str]) -> list[Detection]:
        """Returns one detection per prompt, in order."""
        return [self._detection(normalised(prompt)) for prompt in prompts]

    def _detection(self, prompt: str) -> Detection:
        scores = [(_similarity(normalised(text), prompt), key) for key, text in self.entries]
        score, key = max(scores, key=lambda pair: pair[0])
        return detection(self, score, key)


def normalised(text: str) -> str:
    """Returns the words in lower case and normal width, without accents and punctuation."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", letters))


def _similarity(entry: str, prompt: str) -> float:
    """The score of one entry, both texts normalised."""
    if f" {entry} " in f" {prompt} ":
        return 1.0
    if len(entry) < SHORTEST_FUZZY or not prompt:
        return 0.0
    try:
        from rapidfuzz import fuzz
    except ModuleNotFoundError as error:
        raise ConfigError("fuzzy prompts need RapidFuzz; run: pip install 'steerclear[prompt]'") from error
    compare = fuzz.partial_ratio if len(prompt) >= len(entry) else fuzz.ratio
    # a match that is not word for word never scores as one
    return min(0.99, float(compare(entry, prompt)) / 100)
