"""Embeddings that the caller passes instead of a prompt, and pipelines without a text encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from steerclear.generators.conditions import EMBEDS, Condition

TEXT_PARTS = ("text_encoder", "tokenizer")
NEGATIVE_START = "negative_"
NEGATIVE = NEGATIVE_START + EMBEDS


def given_embeddings(kwargs: Mapping[str, Any]) -> Condition:
    """The arguments of a call that hold embeddings of texts, and their masks."""
    return {
        name: value
        for name, value in kwargs.items()
        if value is not None and ("prompt_embeds" in name or "attention_mask" in name)
    }


def of_prompts(given: Mapping[str, Any]) -> Condition:
    """Select the embeddings of prompts; empty where the call has a text."""
    return {name: value for name, value in given.items() if not name.startswith(NEGATIVE_START)}


def of_negatives(given: Mapping[str, Any]) -> Condition:
    """Select the embeddings of negative prompts."""
    return {name: value for name, value in given.items() if name.startswith(NEGATIVE_START)}


def absent_text_parts(pipe: Any) -> list[str]:
    """The encoders and tokenizers that are None and without which no text can be encoded; empty where it can
    be.

    Some pipelines work with some of their text encoders. Missing are the first one, unless its class calls it
    optional, or all of them together.
    """
    components = getattr(pipe, "components", {})
    optional = getattr(pipe, "_optional_components", ())
    absent = [name for name, part in components.items() if part is None and name.startswith(TEXT_PARTS)]
    encoders = [name for name in components if name.startswith("text_encoder")]
    required = any(name in TEXT_PARTS and name not in optional for name in absent)
    return absent if required or (encoders and set(encoders) <= set(absent)) else []


def of_one_length(condition: Condition, given: Condition, blank: Condition) -> Condition:
    """Pad a text's condition or the caller's negative embeddings, so that both have the same number of
    tokens.

    Pipelines need prompt and negative prompt of one length. The shorter is padded with the blank prompt's
    tokens, as compel does for prompts longer than the text encoder reads; where there is a mask, with zeros
    that the mask excludes.

    Args:
        condition: a text's embeddings.
        given: the caller's; the text gets at least their length, so that both can be compared.
        blank: the blank text's embeddings.
    """
    joined = {**condition, **of_negatives(given)}
    tokens = [holder[k] for holder in (joined, given) for k in (EMBEDS, NEGATIVE) if k in holder]
    if not all(isinstance(value, Tensor) for value in tokens):
        return joined
    length = max(value.shape[1] for value in tokens)
    return {
        **_filled(of_prompts(joined), name=EMBEDS, length=length, blank=blank),
        **_filled(of_negatives(joined), name=NEGATIVE, length=length, blank=blank),
    }


def _filled(condition: Condition, name: str, length: int, blank: Condition) -> Condition:
    """One half of a condition, its tokens (1, L, C) called `name`, with as many tokens as `length`."""
    tokens = condition.get(name)
    if tokens is None or tokens.shape[1] == length:
        return condition
    missing = length - tokens.shape[1]
    masks = {k: v for k, v in condition.items() if "mask" in k and isinstance(v, Tensor)}
    if masks:
        filling = tokens.new_zeros(len(tokens), missing, tokens.shape[2])
    else:
        again = blank[EMBEDS].to(tokens)
        filling = again.repeat(1, -(-missing // again.shape[1]), 1)[:, :missing]
    longer = {k: torch.cat([v, v.new_zeros(len(v), missing, *v.shape[2:])], dim=1) for k, v in masks.items()}
    return {**condition, **longer, name: torch.cat([tokens, filling], dim=1)}
