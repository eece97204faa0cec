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


Variant = tuple[str, Callable[[SweepRequest], SweepRequest]]


def groups() -> dict[str, tuple[list[Variant], int]]:
    """Every group by name: its variants, and how many seeds of each are asked for with each prompt."""
    sizes: list[Variant] = [
        (f"{w}×{h}", lambda r, size=(w, h): replace(r, size=size, steps=FEW_STEPS)) for w, h in SIZES
    ]
    steps: list[Variant] = [(str(n), lambda r, n=n: replace(r, steps=n)) for n in STEP_COUNTS]
    guidances: list[Variant] = [(f"{g:g}", lambda r, g=g: replace(r, guidance=g)) for g in GUIDANCES]
    schedulers: list[Variant] = [
        (name.removesuffix("Scheduler"), lambda r, name=name: replace(r, scheduler=name))
        for name in SCHEDULERS
    ]
    wordings: list[Variant] = [
        (name, lambda r, word=word: replace(r, prompt=word(r.prompt, r.file)))
        for name, word in wording.WORDINGS.items()
    ]
    pictures: list[Variant] = [
        (
            f"{altered}, {strength}",
            lambda r, a=altered, s=strength: replace(r, altered=a, strength=s, size=None),
        )
        for altered in ALTERED
        for strength in STRENGTHS
    ]
    embeddings: list[Variant] = [
        (f"{target}, start {k}", lambda r, t=target, k=k: replace(r, target=t, restart=k))
        for k in range(RESTARTS)
        for target in TARGETS
    ]
    mixtures: list[Variant] = [(str(k), lambda r, k=k: mixture(r, k)) for k in range(MIXTURES)]
    return {
        "sizes": (sizes, 1),
        "steps": (steps, 2),
        "guidance": (guidances, 2),
        "schedulers": (schedulers, 1),
        "negative prompts": (_negatives(), 2),
        "wording": (wordings, 1),
        "image-to-image": (pictures, 1),
        "optimised embeddings": (embeddings, 1),
        "mixtures": (mixtures, 1),
    }


def _negatives() -> list[Variant]:
    return [
        ("the style", lambda r: replace(r, negative=wording.style_in(r.prompt))),
        ("the subject", lambda r: replace(r, negative=wording.subject_in(r.prompt, r.file))),
        ("the name", lambda r: replace(r, negative=wording.name_in(r.prompt, r.file))),
        ("everyday", lambda r: replace(r, negative=wording.EVERYDAY)),
        ("everyday, long", lambda r: replace(r, negative=wording.EVERYDAY_LONG)),
    ]


def mixture(request: SweepRequest, number: int) -> SweepRequest:
    """A request with size, steps, guidance, scheduler, negative prompt and wording drawn at once."""
    draw = random.Random(f"{request.file} {number}")
    small = [size for size in SIZES if max(size) <= LARGEST_MIXED]
    prompt = request.prompt
    negative = draw.choice([None, *_negatives()])
    if negative is not None:
        request = negative[1](request)
    if draw.random() < 0.5:
        prompt = draw.choice(list(wording.WORDINGS.values()))(prompt, request.file)
    return replace(
        request,
        prompt=prompt,
        size=draw.choice(small),
        steps=draw.choice([n for n in STEP_COUNTS if n <= STEPS]),
        guidance=draw.choice(GUIDANCES),
        scheduler=draw.choice(SCHEDULERS),
    )


def requests() -> list[SweepRequest]:
    """All requests, in order.

    In a group every round asks for each planted prompt once, each with another variant. The groups are
    interleaved in proportion to their sizes, so that any prefix of the list holds the same share of each.
    """
    planted = read_prompts("planted")
    placed = []
    number = 0
    for group, (variants, seeds) in groups().items():
        rounds = [(turn, i) for turn in range(len(variants) * seeds) for i in range(len(planted))]
        for at, (turn, i) in enumerate(rounds):
            name, change = variants[(turn + i) % len(variants)]
            prompt, file = planted[i]
            assert file is not None
            plain = SweepRequest(
                group=group, variant=name, prompt=prompt, file=file, seed=FIRST_SEED + number
            )
            number += 1
            placed.append(((at + 0.5) / len(rounds), change(plain)))
    return [request for _, request in sorted(placed, key=lambda pair: pair[0])]
