"""Simple methods: the plain pipeline, less guidance, random tokens, a negative prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steerclear.filters.base import flagged
from steerclear.steering import derive
from steerclear.types import Detection
from steerclear_lab.bench.baselines.base import Context, MethodOutput, Run, SamplingStep


@dataclass(frozen=True)
class Plain:
    """The plain pipeline."""

    name: ClassVar[str] = "none"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    source: ClassVar[str] = "the plain pipeline"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        return run.output(run.denoise())


@dataclass(frozen=True)
class LowerGuidance:
    """ε = ε_u + scale · Δ at every step (Ho & Salimans 2022, eq. 6).

    Attributes:
        scale: guidance scale; None for the context's.
    """

    scale: float | None = 2.0
    name: ClassVar[str] = "lower guidance"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"scale": (2.0, 1.5, 1.0, 3.0)}
    source: ClassVar[str] = "Ho & Salimans 2022, eq. 6, with a small scale"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        return run.output(run.denoise(lambda step: step.guided(self.scale)))


@dataclass(frozen=True)
class RandomTokens:
    """Insert random tokens of the vocabulary at random places of the prompt (Somepalli et al. 2023, §7).

    Attributes:
        count: of inserted tokens.
    """

    count: int = 2
    name: ClassVar[str] = "random tokens"
    needs_reference: ClassVar[bool] = False
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"count": (2, 4, 1, 6)}
    source: ClassVar[str] = "Somepalli et al. 2023, §7, RNA at inference"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, self.with_random_tokens(context.denoiser.tokenizer, prompt, seed), seed)
        return run.output(run.denoise())

    def with_random_tokens(self, tokenizer: Any, prompt: str, seed: int) -> str:
        """The prompt with random tokens inserted, the same for the same seed."""
        if self.count == 0:
            return prompt
        generator = torch.Generator().manual_seed(derive(seed, "tokens"))
        special = set(tokenizer.all_special_ids)
        ids = [i for i in tokenizer(prompt).input_ids if i not in special]
        ordinary = [i for i in range(len(tokenizer)) if i not in special]
        for _ in range(self.count):
            place = int(torch.randint(len(ids) + 1, (), generator=generator))
            ids.insert(place, ordinary[int(torch.randint(len(ordinary), (), generator=generator))])
        return str(tokenizer.decode(ids))


@dataclass(frozen=True)
class NegativePrompt:
    """Where the plain picture is flagged, draw again with the matched picture's caption as negative prompt.

    Nothing verifies the second picture.

    Attributes:
        strength: share of the way from the empty prompt's embedding to the caption's, in [0, 1].
    """

    strength: float = 1.0
    name: ClassVar[str] = "negative prompt"
    needs_reference: ClassVar[bool] = True
    grid: ClassVar[Mapping[str, tuple[Any, ...]]] = {"strength": (1.0, 0.75, 0.5, 0.25)}
    source: ClassVar[str] = "negative prompts of diffusers, with the flagged item's caption"

    def generate(self, context: Context, prompt: str, seed: int) -> MethodOutput:
        run = Run(context, prompt, seed)
        plain = run.output(run.denoise())
        assert plain.image is not None
        detections = context.required_guard().check([plain.image])[0]
        caption = caption_of(context, detections)
        if not flagged(detections) or caption is None or self.strength == 0:
            return plain
        negative = run.uncond + self.strength * (run.embed(caption) - run.uncond)

        def guide(step: SamplingStep) -> torch.Tensor:
            embeds = torch.cat([negative, run.cond])
            away, towards = run.outputs(step.sample, step.timestep, embeds).chunk(2)
            return away + context.guidance * (towards - away)

        return run.output(run.denoise(guide))


def caption_of(context: Context, detections: tuple[Detection, ...]) -> str | None:
    """The caption of the first protected picture that a flagging filter matched, or None."""
    references = context.required_references()
    matches = (d.matched for d in detections if d.flagged and d.matched in references.ids)
    item = next(matches, None)
    return None if item is None else references.captions[references.ids.index(item)]
