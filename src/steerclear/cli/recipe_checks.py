"""Checks of a recipe that need neither the model nor the library."""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

from steerclear import plugins
from steerclear.cli.inputs import LARGEST_SEED
from steerclear.cli.recipe import USUAL_GUIDANCE, PromptAndSeed, Recipe
from steerclear.errors import InputError

MOST_STEPS = 1000  # models are trained with so many noise levels
DEVICES = ("cpu", "cuda", "mps", "xpu")
DTYPES = ("auto", "float32", "float16", "bfloat16")
OFFLOADS = ("model", "sequential")
LARGEST_SCALE = 100.0  # of a LoRA; larger ones leave only noise


def check_recipe(recipe: Recipe) -> None:
    """Check everything that needs neither the model nor the library. Imports the filters and strategies.

    Raises:
        InputError: for a number or device that cannot be used.
        ConfigError: for an unknown filter or strategy.
        EncoderError: for an unknown encoder.
    """
    if not 0 <= recipe.seed <= LARGEST_SEED:
        raise InputError(f"seed {recipe.seed} is out of range; seeds go from 0 to {LARGEST_SEED}")
    if not 1 <= recipe.steps <= MOST_STEPS:
        raise InputError(f"steps is {recipe.steps}; it must be a whole number from 1 to {MOST_STEPS}")
    if not (math.isfinite(recipe.guidance) and recipe.guidance >= 0):
        raise InputError(
            f"guidance is {recipe.guidance}; it must be a finite number of at least 0, "
            f"such as {USUAL_GUIDANCE}"
        )
    if recipe.budget is not None and not (math.isfinite(recipe.budget) and recipe.budget >= 0):
        raise InputError(
            f"budget is {recipe.budget}; it must be a finite multiple of the plain cost, at least 0"
        )
    if recipe.device.partition(":")[0] not in DEVICES:
        raise InputError(
            f"device {recipe.device!r} is unknown; there are {', '.join(DEVICES)}, and cuda:1 and so on"
        )
    _check_request(recipe)
    for name in recipe.filters:
        plugins.load("filter", name)
    if recipe.encoder:
        from steerclear.encoders import encoder_name

        encoder_name(recipe.encoder)
    if recipe.ladder:
        from steerclear.nudge.ladder import strategies

        strategies(recipe.ladder)


def _check_request(recipe: Recipe) -> None:
    """Check what is said of the picture's size, of its call and of how the model runs."""
    for side in ("height", "width"):
        length = getattr(recipe, side)
        if length is not None and length < 1:
            raise InputError(f"{side} is {length}; it must be a whole number of pixels, at least 1")
    for option, value, known in (("dtype", recipe.dtype, DTYPES), ("offload", recipe.offload, OFFLOADS)):
        if value and value not in known:
            raise InputError(f"{option} {value!r} is unknown; there are {', '.join(known)}")
    if recipe.offload and recipe.device == "cpu":
        raise InputError(
            f"offload {recipe.offload!r} moves a model between the CPU and a GPU; pass --device cuda as well"
        )
    if recipe.scheduler:
        scheduler_class(recipe.scheduler)
    for lora in recipe.loras:
        if not (math.isfinite(lora.scale) and abs(lora.scale) <= LARGEST_SCALE):
            raise InputError(f"the scale of the LoRA {lora.file!r} is {lora.scale}; give one like 0.8")
    if (
        recipe.together
        and PromptAndSeed(recipe.prompt, recipe.seed) not in recipe.together[recipe.image :][:1]
    ):
        raise InputError(f"image is {recipe.image}, which is not this picture's place in `together`")


def scheduler_class(name: str) -> Any:
    """A scheduler class of diffusers by its name.

    Raises:
        InputError: for an unknown name.
    """
    import diffusers

    if re.fullmatch(r"\w+Scheduler", name) and name in dir(diffusers):
        return getattr(diffusers, name)
    known = [other for other in dir(diffusers) if other.endswith("Scheduler")]
    stem = name.removesuffix("Scheduler").lower()
    near = [other for other in known if stem and other.lower().startswith(stem)]
    near = near or difflib.get_close_matches(name, known, n=1, cutoff=0) or known
    raise InputError(f"there is no scheduler {name!r} in diffusers; did you mean {near[0]}?")
