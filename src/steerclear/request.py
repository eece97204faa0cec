"""Before anything is denoised: check a request's arguments, and select those of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steerclear.errors import InputError
from steerclear.generators.accepted import call_parameters, check_arguments
from steerclear.generators.given import given_embeddings, of_prompts
from steerclear.generators.limits import check_latent_output, check_limits, takes_generators
from steerclear.pipelines import native_size
from steerclear.prompts import checked_prompts
from steerclear.steering.seeds import drawn

OUTPUT_TYPES = ("pil", "np", "pt", "latent")
# arguments that the guard sets itself, or handles after the call
GUARDS_OWN = ("output_type", "return_dict")
PROMPTS = ("prompt", "prompt_2", "prompt_3")
# lists that never go per prompt: they have an entry per step or per adapter
NOT_PER_PROMPT = frozenset(
    (
        "callback_on_step_end_tensor_inputs",
        "ip_adapter_image",
        "ip_adapter_image_embeds",
        "sigmas",
        "timesteps",
    )
)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a guard was asked for, checked.

    Attributes:
        prompts: one per prompt of the call; names of classes for a pipeline of class labels.
        images_per_prompt: how many images of each.
        generator: of the noise; a list has one per image.
        arguments: what the plain pipeline is called with.
        kwargs: the caller's own keyword arguments.
        output_type: what is handed out, see `GuardOutput`.
    """

    prompts: list[str]
    images_per_prompt: int
    generator: torch.Generator | list[torch.Generator]
    arguments: dict[str, Any]
    kwargs: dict[str, Any]
    output_type: str = "pil"

    @property
    def count(self) -> int:
        """Number of images, prompt by prompt."""
        return len(self.prompts) * self.images_per_prompt

    @property
    def told_by_seeds(self) -> bool:
        """Whether an image's seed makes it again: not where the noise is the caller's own, nor where the
        first generator encodes the masked picture of all.
        """
        alone = self.kwargs.get("mask_image") is None or self.count == 1
        return self.kwargs.get("latents") is None and alone

    def prompt_of(self, image: int) -> str:
        """The prompt of an image of the call."""
        return self.prompts[image // self.images_per_prompt]

    def texts(self) -> list[list[str]]:
        """The prompts, and beside them those for a second and third text encoder where the call has some.

        Raises:
            InputError: where there are not as many of these as prompts.
        """
        texts = [self.prompts]
        for name in PROMPTS[1:]:
            given = self.kwargs.get(name)
            if not given:
                continue
            texts.append([given] * len(self.prompts) if isinstance(given, str) else list(given))
            if len(texts[-1]) != len(self.prompts):
                raise InputError(
                    f"{len(texts[-1])} texts of {name} were given for {len(self.prompts)} prompts"
                )
        return texts


def checked_request(
    pipe: Any, prompt: str | Sequence[str] | None, *, images: Any, generator: Any, kwargs: Mapping[str, Any]
) -> Request:
    """Check a call of a guard, and draw its noise where the caller brings none.

    Args:
        pipe: a diffusers pipeline.
        prompt: the caller's.
        images: the caller's number of images per prompt.
        generator: the caller's; with None one is drawn for each image.
        kwargs: the caller's other arguments.

    Raises:
        InputError: for whatever the pipeline does not know or a guard cannot honour.
    """
    kwargs = plain_values(pipe, kwargs)
    prompts = checked_prompts(pipe, prompt, kwargs)
    images = plain_value(images)
    generator = list(generator) if isinstance(generator, tuple) else generator
    if generator is None:
        new = drawn(max(1, len(prompts) * (images if isinstance(images, int) else 1)))
        generator = new if len(new) > 1 and takes_generators(pipe, kwargs) else new[0]
    arguments = checked_arguments(pipe, kwargs, images=images, prompts=len(prompts), generator=generator)
    if prompt is not None and not of_prompts(given_embeddings(kwargs)):
        arguments["prompt"] = prompt if isinstance(prompt, str) else prompts
    return Request(
        prompts=prompts,
        images_per_prompt=images,
        generator=generator,
        arguments=without_inference_tensors(arguments),
        kwargs=without_inference_tensors({n: v for n, v in kwargs.items() if n not in GUARDS_OWN}),
        output_type=kwargs.get("output_type") or "pil",
    )


def plain_values(pipe: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Convert numpy's whole numbers to Python's, and complete the picture's size.

    Where only height or width is given, the other is what the pipeline makes by default: some pipelines would
    ignore the one that is given.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the caller's arguments.

    Returns:
        The arguments.

    Raises:
        InputError: where a side is missing and the pipeline's own is not known.
    """
    values = {name: plain_value(value) for name, value in kwargs.items()}
    if isinstance(values.get("class_labels"), list):
        values["class_labels"] = [plain_value(label) for label in values["class_labels"]]
    sides = {"height": values.get("height"), "width": values.get("width")}
    missing = [side for side, length in sides.items() if length is None]
    if len(missing) == 1 and missing[0] in call_parameters(pipe):
        values[missing[0]] = _length(pipe, missing[0], from_picture=values.get("image") is not None)
    return values


def plain_value(value: Any) -> Any:
    """A whole number of numpy's as one of Python's; anything else as it is."""
    return int(value) if isinstance(value, np.integer) else value


def _length(pipe: Any, side: str, *, from_picture: bool) -> int:
    """The pixels of one side of what the pipeline makes by default."""
    default = call_parameters(pipe)[side].default
    length = default if isinstance(default, int) else native_size(pipe, side)
    if from_picture or length is None:
        why = "it may follow the given picture" if from_picture else "it does not say"
        raise InputError(
            f"no {side} is given, and which one {type(pipe).__name__} takes then is not known, since {why}; "
            "pass both height and width"
        )
    return length


def checked_arguments(
    pipe: Any, kwargs: Mapping[str, Any], *, images: int, prompts: int, generator: Any
) -> dict[str, Any]:
    """The arguments of the pipeline's call for the whole request.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the caller's other arguments, as `plain_values` gives them.
        images: number of images per prompt.
        prompts: number of prompts.
        generator: a torch generator, or a list with one per image.

    Raises:
        InputError: for an argument that the pipeline does not know or that a guard cannot honour.
    """
    if not isinstance(images, int) or images < 1:
        raise InputError(f"num_images_per_prompt is {images!r}; it must be a whole number of at least 1")
    steps = kwargs.get("num_inference_steps", 50)
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"num_inference_steps is {steps!r}; it must be a whole number of at least 1")
    strength = kwargs.get("strength", getattr(call_parameters(pipe).get("strength"), "default", None))
    if kwargs.get("image") is not None and isinstance(strength, int | float) and int(steps * strength) < 1:
        raise InputError(
            f"{steps} steps at a strength of {strength} are not even one step; ask for more of either"
        )
    if kwargs.get("output_type") not in (None, *OUTPUT_TYPES):
        raise InputError(f"output_type is {kwargs['output_type']!r}; there are {', '.join(OUTPUT_TYPES)}")
    if kwargs.get("output_type") == "latent":
        check_latent_output(pipe, kwargs)
    kwargs = {name: value for name, value in kwargs.items() if name not in GUARDS_OWN}
    check_arguments(pipe, kwargs)
    latents = kwargs.get("latents")
    if latents is not None and not (isinstance(latents, Tensor) and len(latents) == prompts * images):
        what = f"of {len(latents)} images" if isinstance(latents, Tensor) else repr(latents)[:60]
        raise InputError(f"latents is {what}; pass a tensor with noise for each of {prompts * images} images")
    check_networks(pipe, prompts)
    check_per_image(kwargs, prompts=prompts, images=images)
    check_limits(pipe, kwargs, steps=steps, prompts=prompts, generator=generator)
    if not isinstance(generator, torch.Generator):
        if not isinstance(generator, list) or not all(isinstance(g, torch.Generator) for g in generator):
            raise InputError(
                f"generator is {type(generator).__name__}; pass a torch.Generator or a list of them"
            )
        if len(generator) != prompts * images:
            raise InputError(f"{len(generator)} generators were given for {prompts * images} images")
    plain = dict(kwargs)
    if of_prompts(given_embeddings(kwargs)):  # pipelines take either texts or embeddings
        plain = {name: value for name, value in kwargs.items() if name not in PROMPTS}
    if "num_images_per_prompt" in call_parameters(pipe):
        return {**plain, "num_images_per_prompt": images, "generator": generator}
    if images > 1:
        raise InputError(
            f"{type(pipe).__name__} takes no num_images_per_prompt; ask for each image by itself"
        )
    return {**plain, "generator": generator}


def of_row(kwargs: Mapping[str, Any], prompt: int, prompts: int) -> dict[str, Any]:
    """The arguments that hold for one prompt of a call.

    Args:
        kwargs: the arguments of the whole call.
        prompt: index of the prompt.
        prompts: number of prompts in the call.
    """
    return {
        name: _entry(name, value, prompt) if _goes_per_prompt(name, value, prompts) else value
        for name, value in kwargs.items()
    }


def _goes_per_prompt(name: str, value: Any, prompts: int) -> bool:
    """Whether an argument has one entry for each prompt.

    That is told by its length and by what it holds: texts, pictures and tensors go per prompt. Numbers do
    not, such as a size in pixels or the scale of each adapter, but for the numbers of classes.
    """
    if name in NOT_PER_PROMPT:
        return False
    if isinstance(value, Tensor | np.ndarray):
        # a picture alone has up to three dimensions, and may be as high as there are prompts
        alone = 3 if "image" in name and "embed" not in name else 1
        return value.ndim > alone and len(value) == prompts
    if not isinstance(value, list | tuple) or len(value) != prompts:
        return False
    return name == "class_labels" or all(
        isinstance(v, str | Image.Image | Tensor | np.ndarray) for v in value
    )


def _entry(name: str, value: Any, prompt: int) -> Any:
    """What an argument holds for one prompt; class labels, embeddings and arrays stay a batch of one."""
    if name == "class_labels" or "embeds" in name or isinstance(value, Tensor | np.ndarray):
        return value[prompt : prompt + 1]
    return value[prompt]


def check_per_image(kwargs: Mapping[str, Any], *, prompts: int, images: int) -> None:
    """Refuse a picture for each image of a prompt.

    A flagged image is made again by itself, and which of the pictures is its own could not be told.

    Args:
        kwargs: the arguments of the call.
        prompts: number of prompts.
        images: number of images per prompt.

    Raises:
        InputError: for such pictures.
    """
    for name in ("image", "mask_image", "control_image"):
        value: Any = kwargs.get(name)
        is_batch = isinstance(value, list) or (isinstance(value, Tensor | np.ndarray) and value.ndim > 3)
        if images > 1 and is_batch and len(value) == prompts * images:
            raise InputError(
                f"{name} has {len(value)} pictures for {prompts} prompts with {images} images each; pass a "
                "picture for each prompt, or ask for each image by itself"
            )


def check_networks(pipe: Any, prompts: int) -> None:
    """Refuse several prompts where lists of pictures belong to several control networks.

    Such a list cannot be told from one with a picture for each prompt.

    Args:
        pipe: a diffusers pipeline.
        prompts: number of prompts.

    Raises:
        InputError: for several prompts with such a pipeline.
    """
    several = next(
        (
            name
            for name, part in (("controlnet", "nets"), ("adapter", "adapters"))
            if len(getattr(getattr(pipe, name, None), part, ())) > 1
        ),
        None,
    )
    if several is not None and prompts > 1:
        raise InputError(
            f"this {type(pipe).__name__} has several networks in its {several}, so a list of pictures may be "
            f"for them or for the {prompts} prompts; ask for each prompt by itself"
        )


def without_inference_tensors(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments, with copies of tensors made under `torch.inference_mode`: no gradient passes those."""
    return {
        name: value.clone() if isinstance(value, Tensor) and value.is_inference() else value
        for name, value in kwargs.items()
    }


def picture_size(kwargs: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) in pixels where the caller gives both; else None."""
    height, width = kwargs.get("height"), kwargs.get("width")
    return (int(height), int(width)) if height and width else None
