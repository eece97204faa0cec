"""Check a request's prompts, and find the end of a prompt that the text encoders do not read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from steerclear.errors import InputError
from steerclear.generators.accepted import call_parameters
from steerclear.generators.given import absent_text_parts, given_embeddings, of_prompts
from steerclear.generators.passes import class_name

LONGEST_PROMPT = 4000  # characters; far beyond what any text encoder reads


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
