"""What the sweep asks for: groups of settings, in an order of which every beginning is a balanced sample."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from steerclear.embedded import read_prompts
from steerclear_lab.bench.sweep import wording
from steerclear_lab.bench.sweep.embeddings import RESTARTS, TARGETS

FIRST_SEED = 60_000  # neither training, calibration nor another benchmark drew these
STEPS, GUIDANCE, NATIVE = 12, 4.0, (64, 64)
FEW_STEPS = 8  # where pictures are large
SIZES = (
    (64, 64), (128, 64), (64, 128), (96, 64), (64, 96), (128, 128),
    (192, 64), (256, 256), (32, 32), (48, 48), (96, 96), (112, 80),
)  # fmt: skip
STEP_COUNTS = (1, 2, 3, 5, 8, 12, 25, 50)
GUIDANCES = (0.0, 1.0, 2.5, 4.0, 7.5, 10.0, 15.0)
SCHEDULERS = (
    "DDIMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
    "HeunDiscreteScheduler",
    "DDPMScheduler",
)
ALTERED = ("mirrored", "cropped", "another hue")
STRENGTHS = (0.2, 0.4, 0.6, 0.8)
MIXTURES = 9  # settings of all kinds drawn at once, for each prompt
LARGEST_MIXED = 128  # pixels of a side
STRIDE = 7  # from prompt to prompt, without a common divisor with their number: neighbours share a style


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """One guarded request.

    Attributes:
        group: of settings.
        variant: which setting of the group.
        prompt: what is asked for.
        file: name of the protected picture that the prompt is of.
        seed: of the picture.
        steps: denoising steps.
        guidance: scale of the guidance.
        size: (width, height) in pixels; None for image-to-image, where the picture has it.
        scheduler: name of its class in diffusers.
        negative: the negative prompt.
        altered: how the protected picture was altered with which image-to-image begins, one of ALTERED.
        strength: of image-to-image.
        target: what an optimised embedding is to give, one of TARGETS; it stands for the prompt.
        restart: of the embedding's optimisation.
    """

    group: str
    variant: str
    prompt: str
    file: str
    seed: int
    steps: int = STEPS
    guidance: float = GUIDANCE
    size: tuple[int, int] | None = NATIVE
    scheduler: str = SCHEDULERS[0]
    negative: str | None = None
    altered: str | None = None
    strength: float | None = None
    target: str | None = None
    restart: int | None = None

    @property
    def key(self) -> str:
        """A short hash of all that decides the row."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:20]

    @property
    def row(self) -> dict[str, Any]:
        """The request as it stands in a row, without what is not set."""
        return {"key": self.key, **{k: v for k, v in asdict(self).items() if v is not None}}


Change = Callable[[SweepRequest], SweepRequest]
Variants = dict[str, Change]


def fixed(**settings: Any) -> Change:
    """The same settings for every prompt."""

    def change(request: SweepRequest) -> SweepRequest:
        return replace(request, **settings)

    return change


def worded(word: Callable[[str, str], str]) -> Change:
    """The prompt in other words."""

    def change(request: SweepRequest) -> SweepRequest:
        return replace(request, prompt=word(request.prompt, request.file))

    return change


def mixed(number: int) -> Change:
    """Settings of all kinds, drawn by the prompt and a number."""

    def change(request: SweepRequest) -> SweepRequest:
        return mixture(request, number)

    return change


def _without_style(request: SweepRequest) -> SweepRequest:
    return replace(request, negative=wording.style_in(request.prompt))


def _without_subject(request: SweepRequest) -> SweepRequest:
    return replace(request, negative=wording.subject_in(request.prompt, request.file))


def _without_name(request: SweepRequest) -> SweepRequest:
    return replace(request, negative=wording.name_in(request.prompt, request.file))


NEGATIVES: Variants = {
    "the style": _without_style,
    "the subject": _without_subject,
    "the name": _without_name,
    "everyday": fixed(negative=wording.EVERYDAY),
    "everyday, long": fixed(negative=wording.EVERYDAY_LONG),
}


def groups() -> dict[str, tuple[Variants, int]]:
    """Every group by name: its variants, and how many seeds of each are asked for with each prompt."""
    return {
        "sizes": ({f"{w}×{h}": fixed(size=(w, h), steps=FEW_STEPS) for w, h in SIZES}, 1),
        "steps": ({str(count): fixed(steps=count) for count in STEP_COUNTS}, 2),
        "guidance": ({f"{scale:g}": fixed(guidance=scale) for scale in GUIDANCES}, 2),
        "schedulers": ({name.removesuffix("Scheduler"): fixed(scheduler=name) for name in SCHEDULERS}, 1),
        "negative prompts": (NEGATIVES, 2),
        "wording": ({name: worded(word) for name, word in wording.WORDINGS.items()}, 1),
        "image-to-image": (
            {
                f"{how}, {strength}": fixed(altered=how, strength=strength, size=None)
                for how in ALTERED
                for strength in STRENGTHS
            },
            1,
        ),
        "optimised embeddings": (
            {
                f"{target}, start {restart}": fixed(target=target, restart=restart)
                for restart in range(RESTARTS)
                for target in TARGETS
            },
            1,
        ),
        "mixtures": ({str(number): mixed(number) for number in range(MIXTURES)}, 1),
    }


def mixture(request: SweepRequest, number: int) -> SweepRequest:
    """A request with size, steps, guidance, scheduler, negative prompt and wording drawn at once."""
    draw = random.Random(f"{request.file} {number}")
    small = [size for size in SIZES if max(size) <= LARGEST_MIXED]
    request = draw.choice([fixed(), *NEGATIVES.values()])(request)
    if draw.random() < 0.5:
        request = worded(draw.choice(list(wording.WORDINGS.values())))(request)
    return replace(
        request,
        size=draw.choice(small),
        steps=draw.choice([n for n in STEP_COUNTS if n <= STEPS]),
        guidance=draw.choice(GUIDANCES),
        scheduler=draw.choice(SCHEDULERS),
    )


def requests() -> list[SweepRequest]:
    """All requests, in order.

    In a group every round asks for each planted prompt once, with variants in turn. The groups are
    interleaved in proportion to their sizes, and each begins with another prompt, so that the first requests
    hold the same share of each group and are spread over the prompts.
    """
    planted = read_prompts("planted")
    placed = []
    number = 0
    for start, (group, (variants, seeds)) in enumerate(groups().items()):
        count = len(variants) * seeds * len(planted)
        for at in range(count):
            turn, i = divmod(at, len(planted))
            prompt, file = planted[(STRIDE * i + start) % len(planted)]
            name, change = list(variants.items())[(turn + i) % len(variants)]
            assert file is not None
            plain = SweepRequest(
                group=group, variant=name, prompt=prompt, file=file, seed=FIRST_SEED + number
            )
            placed.append(((at + 0.5) / count, change(plain)))
            number += 1
    return [request for _, request in sorted(placed, key=lambda pair: pair[0])]
