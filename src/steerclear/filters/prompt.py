"""Before anything is denoised: prompts that ask for what is blocked, word for word or nearly."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steerclear.errors import ConfigError, InputError
from steerclear.types import Detection

SHORTEST_FUZZY = 6  # characters; in shorter entries one changed letter makes another word


@dataclass(frozen=True)
class PromptFilter:
    """Block-list of prompts and captions. Needs the extra `prompt` (RapidFuzz) for the fuzzy comparison.

    entries: (id, text) pairs; a flagged prompt names the id, which may be a protected item, as matched. The score is 1 where
    a prompt holds an entry as a phrase, whatever its case, accents, punctuation and width of letters; else the normalised
    edit similarity, in [0, 1], of the entry and the stretch of the prompt that is most like it, or the whole prompt where
    it is the shorter one. threshold: 1.0 leaves exact matches only.

    A flagged prompt is not refused: its image is steered like any other, and its own picture is never handed out. Where
    every prompt of a call is flagged, the first pass is left after one step.
    """

    entries: tuple[tuple[str, str], ...]
    threshold: float = 0.9
    name: str = "prompt"

    def __post_init__(self) -> None:
        empty = [key for key, text in self.entries if not normalised(text)]
        if empty:
            raise ConfigError(
                f"the block-list entry {empty[0]!r} has no letters: it would match every prompt"
            )

    @classmethod
    def of(cls, texts: Sequence[str], threshold: float = 0.9) -> PromptFilter:
        """A block-list of texts, each its own id."""
        return cls(tuple((text, text) for text in texts), threshold)

    @classmethod
    def from_file(cls, file: str | Path, threshold: float = 0.9) -> PromptFilter:
        """A block-list with one text a line; blank lines and those that start with # are skipped."""
        try:
            lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the block-list {str(file)!r}: {error}") from error
        return cls.of([line.strip() for line in lines if line.strip() and line[0] != "#"], threshold)

    def check_prompts(self, prompts: Sequence[str]) -> list[Detection]:
        """One detection per prompt, in order."""
        return [self._detection(normalised(prompt)) for prompt in prompts]

    def _detection(self, prompt: str) -> Detection:
        scores = [(_likeness(normalised(text), prompt), key) for key, text in self.entries]
        score, key = max(scores, default=(0.0, None), key=lambda pair: pair[0])
        return Detection(self.name, score >= self.threshold, score, self.threshold, key)


def normalised(text: str) -> str:
    """Words in lower case, without accents, punctuation and the width of letters, one space between them."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    letters = "".join(c for c in plain if not unicodedata.combining(c))
    return " ".join(re.findall(r"\w+", letters))


def _likeness(entry: str, prompt: str) -> float:
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
