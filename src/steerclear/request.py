"""Before anything is denoised: check a request's arguments, and give each image its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from steerclear.errors import InputError
from steerclear.generators.accepted import call_parameters, check_arguments
from steerclear.generators.given import absent_text_parts, given_embeddings, of_prompts
from steerclear.generators.limits import check_latent_output, check_limits
from steerclear.generators.passes import class_name
from steerclear.pipelines import native_size

LONGEST_PROMPT = 4000  # characters; far beyond what any text encoder reads
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
# what the guard itself says to the pipeline, or does with what the pipeline gives
GUARDS_OWN = ("output_type", "return_dict")
PROMPTS = ("prompt", "prompt_2", "prompt_3")
# lists that belong to the steps or to adapters, whatever their length
NOT_PER_PROMPT = frozenset(
    (
        "callback_on_step_end_tensor_inputs",
        "ip_adapter_image",
        "ip_adapter_image_embeds",
        "sigmas",
        "timesteps",
    )
)


def checked_prompts(pipe: Any, prompt: str | Sequence[str] | None, kwargs: Mapping[str, Any]) -> list[str]:
    """The prompts of a request.

    Args:
        pipe: a diffusers pipeline.
        prompt: the caller's.
        kwargs: the caller's other arguments.

    Returns:
        A list of prompts; for a pipeline that takes class labels, the names of the classes. Where embeddings
        are given and no text, empty texts.

    Raises:
        InputError: for a prompt that is missing, empty, too long or no text, for class labels out of range,
            and for a text without a text encoder.
    """
    if "prompt" not in call_parameters(pipe):
        return _checked_labels(pipe, prompt, kwargs)
    if embeddings := of_prompts(given_embeddings(kwargs)):
        return _checked_beside(embeddings, prompt)
    texts = _checked_texts(prompt)
    if absent := absent_text_parts(pipe):
        raise InputError(
            f"this {type(pipe).__name__} has no {', '.join(absent)}, so it cannot read {texts[0][:60]!r}; "
            "load the whole pipeline, or pass prompt_embeds=…"
        )
    return texts


def _checked_beside(embeddings: Mapping[str, Any], prompt: str | Sequence[str] | None) -> list[str]:
    """The texts beside embeddings: one for each, one for all, or none."""
    name, first = next(iter(embeddings.items()))
    if not isinstance(first, Tensor | list | tuple) or not len(first):
        raise InputError(f"{name} is {type(first).__name__}; pass a tensor with an embedding for each prompt")
    count = len(first)
    if prompt is None:
        return [""] * count
    texts = _checked_texts(prompt)
    if isinstance(prompt, str):
        return texts * count
    if len(texts) != count:
        raise InputError(f"{len(texts)} prompts were given beside {name} of {count}; pass one for each")
    return texts


def _checked_texts(prompt: Any) -> list[str]:
    """A prompt or several as a list."""
    if prompt is not None and not isinstance(prompt, str | Sequence):
        raise InputError(f"the prompt {prompt!r} is neither a string nor a list of strings")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())
    if not prompts:
        raise InputError("no prompt was given; pass a string or a list of strings")
    for text in prompts:
        if not isinstance(text, str):
            raise InputError(f"the prompt {text!r} is no text; pass a string or a list of strings")
        if not text.strip():
            raise InputError(f"the prompt {text!r} is empty; say what the picture should show")
        if len(text) > LONGEST_PROMPT:
            raise InputError(
                f"a prompt of {len(text)} characters is too long; {LONGEST_PROMPT} is the most, and "
                "models read far less"
            )
    return prompts


def _checked_labels(pipe: Any, prompt: Any, kwargs: Mapping[str, Any]) -> list[str]:
    """The names of a request's class labels."""
    name = type(pipe).__name__
    if "class_labels" not in call_parameters(pipe):
        raise InputError(f"{name} takes neither a prompt nor class labels; it cannot be guarded yet")
    if prompt is not None:
        raise InputError(f"{name} takes no prompt; pass class_labels=[…]")
    labels = kwargs.get("class_labels")
    if not isinstance(labels, list) or not labels:
        raise InputError(f"class_labels is {labels!r}; pass a list of class numbers")
    classes = int(getattr(pipe.transformer.config, "num_embeds_ada_norm", 1000))
    for label in labels:
        if not isinstance(label, int) or not 0 <= label < classes:
            raise InputError(f"class label {label!r} is no whole number from 0 to {classes - 1}")
    return [class_name(pipe, label) for label in labels]


def plain_values(pipe: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The caller's arguments with numpy's whole numbers as Python's, and with both sides of a picture.

    Where one side alone is given, the other is what the pipeline makes by default: some pipelines would
    ignore the one.

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
    """Raise InputError for pictures that go per image, where each prompt has several images.

    A flagged image is made again by itself, and a picture for each of them could not be told from others.
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
    """Raise InputError for several prompts where lists of pictures are for several control networks.

    Such a list cannot be told from one with a picture for each prompt.
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


def unread(pipe: Any, prompt: str, kwargs: Mapping[str, Any]) -> str | None:
    """The end of a prompt that none of the pipeline's text encoders reads.

    Args:
        pipe: a diffusers pipeline.
        prompt: the request's.
        kwargs: the caller's other arguments.

    Returns:
        What the encoder that reads most leaves out; None where it reads everything, and where an encoder is
        neither a CLIP nor a T5.
    """
    unread_ends: list[str] = []
    for number in ("", "_2", "_3"):
        tokenizer, encoder = (
            getattr(pipe, f"{part}{number}", None) for part in ("tokenizer", "text_encoder")
        )
        if tokenizer is None or encoder is None:
            continue
        kind = type(encoder).__name__
        if "CLIP" not in kind and "T5" not in kind:
            return None  # a language model's template takes part of the length
        limit = int(tokenizer.model_max_length)
        if "T5" in kind and "max_sequence_length" in call_parameters(pipe):
            default = call_parameters(pipe)["max_sequence_length"].default
            limit = int(kwargs.get("max_sequence_length", default) or limit)
        tokens = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        kept = max(0, limit - tokenizer.num_special_tokens_to_add())
        unread_ends.append(tokenizer.decode(tokens[kept:]).strip() if len(tokens) > kept else "")
    return min(unread_ends, key=len) or None if unread_ends else None
