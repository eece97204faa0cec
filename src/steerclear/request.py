"""Before anything is denoised: a request's arguments checked, and told apart image by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import InputError
from steerclear.generators.accepted import call_parameters, check_arguments
from steerclear.generators.limits import check_limits
from steerclear.generators.passes import class_name

LONGEST_PROMPT = 4000  # characters; far beyond what any text encoder reads
PER_PROMPT = (
    "negative_prompt", "negative_prompt_2", "negative_prompt_3", "image", "mask_image", "class_labels",
)  # fmt: skip
TENSORS_PER_PROMPT = (
    "negative_prompt_embeds", "negative_pooled_prompt_embeds", "image", "mask_image", "image_embeddings",
)  # fmt: skip


def checked_prompts(pipe: Any, prompt: str | Sequence[str] | None, kwargs: Mapping[str, Any]) -> list[str]:
    """The prompts; for a pipeline that takes class labels instead, their names. Raises InputError."""
    takes = call_parameters(pipe)
    if "prompt" not in takes:
        return _checked_labels(pipe, prompt, kwargs)
    if prompt is not None and not isinstance(prompt, str | Sequence):
        raise InputError(f"the prompt {prompt!r} is no string and no list of strings")
    prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())
    if not prompts:
        raise InputError("no prompt was given; pass a string or a list of strings")
    for one in prompts:
        if not isinstance(one, str) or not one.strip():
            raise InputError(f"the prompt {one!r} is empty; say what the picture should show")
        if len(one) > LONGEST_PROMPT:
            raise InputError(
                f"a prompt of {len(one)} characters is too long; {LONGEST_PROMPT} is the most, and models read far less"
            )
    return prompts


def _checked_labels(pipe: Any, prompt: Any, kwargs: Mapping[str, Any]) -> list[str]:
    name = type(pipe).__name__
    if "class_labels" not in call_parameters(pipe):
        raise InputError(f"{name} takes neither a prompt nor class labels; it cannot be guarded yet")
    if prompt is not None:
        raise InputError(f"{name} takes no prompt; pass class_labels=[…]")
    labels = kwargs.get("class_labels")
    if not isinstance(labels, list) or not labels:
        raise InputError(f"class_labels is {labels!r}; pass a list of class numbers")
    most = int(getattr(pipe.transformer.config, "num_embeds_ada_norm", 1000))
    for label in labels:
        if not isinstance(label, int) or not 0 <= label < most:
            raise InputError(f"class label {label!r} is no whole number from 0 to {most - 1}")
    return [class_name(pipe, label) for label in labels]


def checked_arguments(
    pipe: Any, images: int, count: int, generator: Any, kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The pipeline's own arguments for the whole call. count: prompts. Raises InputError for what cannot be honoured."""
    if not isinstance(images, int) or images < 1:
        raise InputError(f"num_images_per_prompt is {images!r}; it must be a whole number of at least 1")
    steps = kwargs.get("num_inference_steps", 50)
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"num_inference_steps is {steps!r}; it must be a whole number of at least 1")
    strength = kwargs.get("strength", getattr(call_parameters(pipe).get("strength"), "default", None))
    if kwargs.get("image") is not None and isinstance(strength, int | float) and int(steps * strength) < 1:
        raise InputError(f"{steps} steps at a strength of {strength} are none at all; ask for more of either")
    for name in ("output_type", "return_dict", "prompt_embeds", "latents"):
        if kwargs.get(name) is not None:
            raise InputError(
                f"a guard takes no {name}: it reads prompts, draws the noise and hands out PIL images itself"
            )
    check_arguments(pipe, kwargs)
    check_limits(pipe, kwargs, steps=steps, prompts=count, generator=generator)
    if not isinstance(generator, torch.Generator):
        if not isinstance(generator, list) or not all(isinstance(g, torch.Generator) for g in generator):
            raise InputError(
                f"generator is {type(generator).__name__}; pass a torch.Generator or a list of them"
            )
        if len(generator) != count * images:
            raise InputError(f"{len(generator)} generators were given for {count * images} images")
    plain = {k: v for k, v in kwargs.items() if k not in ("output_type", "return_dict")}
    if "num_images_per_prompt" in call_parameters(pipe):
        return {**plain, "num_images_per_prompt": images, "generator": generator}
    if images > 1:
        raise InputError(
            f"{type(pipe).__name__} takes no num_images_per_prompt; ask for each image by itself"
        )
    return {**plain, "generator": generator}


def of_row(kwargs: Mapping[str, Any], prompt: int, prompts: int) -> dict[str, Any]:
    """The arguments as they hold for one of `prompts` in the call."""
    own = dict(kwargs)
    for name in PER_PROMPT:
        if isinstance(own.get(name), list) and len(own[name]) == prompts:
            one = own[name][prompt]
            own[name] = [one] if name == "class_labels" else one
    for name in TENSORS_PER_PROMPT:
        value = own.get(name)
        if isinstance(value, Tensor) and value.ndim > 1 and len(value) == prompts:
            own[name] = value[prompt : prompt + 1]
    return own


def picture_size(kwargs: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) in pixels where the caller names both."""
    height, width = kwargs.get("height"), kwargs.get("width")
    return (int(height), int(width)) if height and width else None


def unread(pipe: Any, prompt: str, kwargs: Mapping[str, Any]) -> str | None:
    """The end of a prompt that none of the pipeline's text encoders reads, as far as CLIP and T5 encoders tell; else None.

    It is what the most patient encoder leaves out.
    """
    left: list[str] = []
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
            own = kwargs.get("max_sequence_length", call_parameters(pipe)["max_sequence_length"].default)
            limit = int(own or limit)
        words = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
        kept = max(0, limit - tokenizer.num_special_tokens_to_add())
        left.append(tokenizer.decode(words[kept:]).strip() if len(words) > kept else "")
    return min(left, key=len) or None if left else None
