"""Methods that need no maths: the plain pipeline, less guidance, random tokens, a negative prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steerclear.filters.base import flagged
from steerclear.steering import derive
from steerclear.types import Detection
from steerclear_lab.bench.baselines.base import Context, Made, Moment, Run


@dataclass(frozen=True)
class Plain:
    """The pipeline as it is."""

    name: ClassVar[str] = "none"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    source: ClassVar[str] = "the plain pipeline"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        return run.made(run.denoise())


@dataclass(frozen=True)
class LowerGuidance:
    """ε = ε_u + scale · Δ at every step. scale: None for the model's own."""

    scale: float | None = 2.0
    name: ClassVar[str] = "lower guidance"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"scale": (2.0, 1.5, 1.0, 3.0)}
    source: ClassVar[str] = "Ho & Salimans 2022, eq. 6, with a small scale"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        return run.made(run.denoise(lambda moment: moment.guided(self.scale)))


@dataclass(frozen=True)
class RandomTokens:
    """`count` random tokens of the vocabulary, each at a random place among the prompt's own."""

    count: int = 2
    name: ClassVar[str] = "random tokens"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"count": (2, 4, 1, 6)}
    source: ClassVar[str] = "Somepalli et al. 2023, §7, RNA at inference"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, self.noised(context.denoiser.tokenizer, prompt, seed), seed)
        return run.made(run.denoise())

    def noised(self, tokenizer: Any, prompt: str, seed: int) -> str:
        """The prompt with random words in it."""
        if self.count == 0:
            return prompt
        draw = torch.Generator().manual_seed(derive(seed, "tokens"))
        special = set(tokenizer.all_special_ids)
        ids = [i for i in tokenizer(prompt).input_ids if i not in special]
        ordinary = [i for i in range(len(tokenizer)) if i not in special]
        for _ in range(self.count):
            place = int(torch.randint(len(ids) + 1, (), generator=draw))
            ids.insert(place, ordinary[int(torch.randint(len(ordinary), (), generator=draw))])
        return str(tokenizer.decode(ids))


@dataclass(frozen=True)
class NegativePrompt:
    """Where the plain picture is flagged, again with the matched picture's caption in place of the empty prompt.

    Nothing verifies the second picture. strength: of the step from the empty prompt's embedding to the caption's.
    """

    strength: float = 1.0
    name: ClassVar[str] = "negative prompt"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"strength": (1.0, 0.75, 0.5, 0.25)}
    source: ClassVar[str] = "negative prompts of diffusers, with the flagged item's caption"

    def generate(self, context: Context, prompt: str, seed: int) -> Made:
        run = Run(context, prompt, seed)
        plain = run.made(run.denoise())
        assert plain.image is not None
        found = context.flagging().check([plain.image])[0]
        caption = caption_of(context, found)
        if not flagged(found) or caption is None or self.strength == 0:
            return plain
        negative = run.uncond + self.strength * (run.embed(caption) - run.uncond)

        def guide(moment: Moment) -> torch.Tensor:
            away, towards = run.outputs(
                moment.sample, moment.timestep, torch.cat([negative, run.cond])
            ).chunk(2)
            return away + context.guidance * (towards - away)

        return run.made(run.denoise(guide))


def caption_of(context: Context, found: tuple[Detection, ...]) -> str | None:
    """The caption of the first protected picture that a flagged finding names."""
    known = context.known()
    names = (d.matched for d in found if d.flagged and d.matched in known.ids)
    item = next(names, None)
    return None if item is None else known.captions[known.ids.index(item)]
