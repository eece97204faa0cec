"""The settings that clean pictures are drawn at: those that a user gives, or a small grid around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from steerclear.devices import raise_if_lost
from steerclear.errors import InputError, UnsupportedError
from steerclear.generators.accepted import call_parameters
from steerclear.pipelines import native_size
from steerclear.steering.denoised import rule_for

FEWEST_STEPS = 4  # the grid has no fewer steps, unless the user gave fewer
NEGATIVE_PROMPT = "blurry, low quality, cropped, text, watermark"
SAMPLERS = (  # common ones; the grid has those that take the pipeline's configuration
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
DISTILLED = ("LCMScheduler", "TCDScheduler")  # their models were trained for this very sampler
# powers of the root of x⁶ = x + 1: multiples of them fill five axes evenly (Roberts 2018)
STRIDES = tuple(1.1347241384015194**-i for i in range(1, 6))


@dataclass(frozen=True)
class Settings:
    """How a picture is drawn.

    Attributes:
        steps: denoising steps.
        guidance: guidance scale.
        size: width and height in pixels; None for what the pipeline draws by default.
        negative_prompt: None for none.
        scheduler: name of the class; None for the pipeline's own.
    """

    steps: int
    guidance: float
    size: tuple[int, int] | None = None
    negative_prompt: str | None = None
    scheduler: str | None = None

    def __str__(self) -> str:
        parts = [f"steps {self.steps}", f"guidance {self.guidance:g}"]
        parts += [f"{self.size[0]} × {self.size[1]}"] if self.size else []
        parts += ["with a negative prompt"] if self.negative_prompt else []
        return ", ".join([*parts, *([self.scheduler] if self.scheduler else [])])


@dataclass(frozen=True)
class Grid:
    """The settings that pictures are drawn at; the first of each axis is what the user gave.

    Attributes:
        steps: see `Settings`.
        guidance: see `Settings`.
        sizes: see `Settings`.
        negative_prompts: see `Settings`.
        schedulers: see `Settings`.
    """

    steps: tuple[int, ...]
    guidance: tuple[float, ...]
    sizes: tuple[tuple[int, int] | None, ...] = (None,)
    negative_prompts: tuple[str | None, ...] = (None,)
    schedulers: tuple[str | None, ...] = (None,)

    @classmethod
    def around(cls, pipe: Any, *, steps: int, guidance: float) -> Grid:
        """A small grid around what the user gave, as far as the pipeline's call takes it.

        Steps: given, a half and two fifths. Guidance: given, half and double. Sizes: native, 1:2, 2:1 and
        double. Negative prompts: none and an everyday one. Schedulers: the pipeline's, and the usual ones
        that take its configuration.

        Args:
            pipe: a diffusers pipeline.
            steps: as given, from 1.
            guidance: as given. Up to 1 it is off, and then neither it nor the negative prompt varies.
        """
        taken = call_parameters(pipe)
        guided = guidance > 1 and "guidance_scale" in taken
        return cls(
            steps=_distinct(steps, *(max(min(FEWEST_STEPS, steps), steps * i // 10) for i in (5, 4))),
            guidance=(guidance, guidance / 2, guidance * 2) if guided else (guidance,),
            sizes=_sizes(pipe) if {"height", "width"} <= set(taken) else (None,),
            negative_prompts=(None, NEGATIVE_PROMPT) if guided and "negative_prompt" in taken else (None,),
            schedulers=(None, *_other_schedulers(pipe)),
        )

    def draw(self, number: int) -> Settings:
        """The settings of one picture. The same number always gives the same settings, and 0 those that the
        user gave.

        Args:
            number: of the picture, from 0. The sequence covers every axis evenly, and every pair of axes.
        """
        axes = (self.steps, self.guidance, self.sizes, self.negative_prompts, self.schedulers)
        at = [int(number * stride % 1 * len(axis)) for axis, stride in zip(axes, STRIDES, strict=True)]
        return Settings(
            self.steps[at[0]],
            guidance=self.guidance[at[1]],
            size=self.sizes[at[2]],
            negative_prompt=self.negative_prompts[at[3]],
            scheduler=self.schedulers[at[4]],
        )

    def document(self, pipe: Any) -> dict[str, list[Any]]:
        """The settings as evidence has them, defaults by their names."""
        return {
            "steps": list(self.steps),
            "guidance": list(self.guidance),
            "sizes": [f"{size[0]} × {size[1]}" if size else "native" for size in self.sizes],
            "negative_prompts": [text or "" for text in self.negative_prompts],
            "schedulers": [name or type(pipe.scheduler).__name__ for name in self.schedulers],
        }


def draw_picture(pipe: Any, prompt: str, seed: int, settings: Settings) -> Image.Image:
    """Draw a picture at some settings; the pipeline's scheduler is restored afterwards.

    Args:
        pipe: a diffusers pipeline.
        prompt: what to draw.
        seed: of the noise.
        settings: steps, guidance, size, negative prompt and scheduler.

    Returns:
        The picture.

    Raises:
        InputError: if the pipeline fails.
    """
    import diffusers

    scheduler = pipe.scheduler
    arguments: dict[str, Any] = {
        "num_inference_steps": settings.steps,
        "guidance_scale": settings.guidance,
        "generator": torch.Generator().manual_seed(seed),
    }
    if settings.size:
        arguments |= {"width": settings.size[0], "height": settings.size[1]}
    if settings.negative_prompt:
        arguments["negative_prompt"] = settings.negative_prompt
    try:
        if settings.scheduler:
            pipe.scheduler = getattr(diffusers, settings.scheduler).from_config(scheduler.config)
        picture: Image.Image = pipe(prompt, **arguments).images[0]
    except Exception as error:  # pipelines raise errors of any kind, out of memory among them
        raise_if_lost(error)
        raise InputError(
            f"{type(pipe).__name__} cannot draw {prompt!r} at {settings}: {type(error).__name__}: {error}; "
            "try --settings fixed"
        ) from error
    finally:
        pipe.scheduler = scheduler
    return picture


def _distinct(*values: int) -> tuple[int, ...]:
    return tuple(dict.fromkeys(values))


def _sizes(pipe: Any) -> tuple[tuple[int, int] | None, ...]:
    """Native, 1:2, 2:1 and double; the native one alone where it is not known.

    The three others together take as long as about five native ones do.
    """
    native = native_size(pipe)
    if native is None:
        return (None,)
    half = native // 16 * 8  # autoencoders halve a picture three times, most of them
    return (None, (half, native), (native, half), (2 * native, 2 * native)) if half else (None,)


def _other_schedulers(pipe: Any) -> list[str]:
    """The usual schedulers but the pipeline's, as far as they take its configuration and can be steered."""
    present = type(pipe.scheduler)
    if present.__name__ in DISTILLED:
        return []
    fitting = {cls.__name__: cls for cls in pipe.scheduler.compatibles if cls is not present}
    return [name for name in SAMPLERS if name in fitting and _steerable(fitting[name], pipe.scheduler.config)]


def _steerable(cls: Any, config: Any) -> bool:
    try:
        rule_for(cls.from_config(config))
    except (UnsupportedError, ValueError, ImportError):
        return False  # such as a prediction type that it does not know
    return True
