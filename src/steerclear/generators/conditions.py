"""A prompt as each pipeline family takes it: text embeddings, by the argument names of `__call__`."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError

Condition = dict[str, Any]
"""The pipeline's keyword arguments that hold a prompt's text embeddings, a batch of one."""

EMBEDS, NEGATIVE = "prompt_embeds", "negative_prompt_embeds"
POOLED, NEGATIVE_POOLED = "pooled_prompt_embeds", "negative_pooled_prompt_embeds"
MASK, NEGATIVE_MASK = "prompt_attention_mask", "negative_prompt_attention_mask"
QWEN_MASK = "prompt_embeds_mask"
SECOND = "_2"  # suffix of the names of HunyuanDiT's second text encoder
KANDINSKY3_MASK, KANDINSKY3_NEGATIVE_MASK = "attention_mask", "negative_attention_mask"
# what encode_prompt returns, in its order; None for what the pipeline's call makes again by itself
ENCODE_PROMPT_RETURNS: dict[str, tuple[str | None, ...]] = {
    "StableDiffusionPipeline": (EMBEDS, NEGATIVE),
    "StableDiffusionImg2ImgPipeline": (EMBEDS, NEGATIVE),
    "StableDiffusionInpaintPipeline": (EMBEDS, NEGATIVE),
    "LatentConsistencyModelPipeline": (EMBEDS, None),
    "StableDiffusionXLPipeline": (EMBEDS, NEGATIVE, POOLED, NEGATIVE_POOLED),
    "StableDiffusionXLImg2ImgPipeline": (EMBEDS, NEGATIVE, POOLED, NEGATIVE_POOLED),
    "StableDiffusionXLInpaintPipeline": (EMBEDS, NEGATIVE, POOLED, NEGATIVE_POOLED),
    "StableDiffusion3Pipeline": (EMBEDS, NEGATIVE, POOLED, NEGATIVE_POOLED),
    "FluxPipeline": (EMBEDS, POOLED, None),
    "Flux2Pipeline": (EMBEDS, None),
    "Flux2KleinPipeline": (EMBEDS, None),
    "PixArtAlphaPipeline": (EMBEDS, MASK, NEGATIVE, NEGATIVE_MASK),
    "PixArtSigmaPipeline": (EMBEDS, MASK, NEGATIVE, NEGATIVE_MASK),
    "SanaPipeline": (EMBEDS, MASK, NEGATIVE, NEGATIVE_MASK),
    "Lumina2Pipeline": (EMBEDS, MASK, NEGATIVE, NEGATIVE_MASK),
    "HunyuanDiTPipeline": (EMBEDS, NEGATIVE, MASK, NEGATIVE_MASK),
    "Kandinsky3Pipeline": (EMBEDS, NEGATIVE, KANDINSKY3_MASK, KANDINSKY3_NEGATIVE_MASK),
    "AuraFlowPipeline": (EMBEDS, MASK, NEGATIVE, NEGATIVE_MASK),
    "CogView4Pipeline": (EMBEDS, NEGATIVE),
    "ChromaPipeline": (EMBEDS, None, MASK, NEGATIVE, None, NEGATIVE_MASK),
    "QwenImagePipeline": (EMBEDS, QWEN_MASK),
    "ZImagePipeline": (EMBEDS, NEGATIVE),
}
# an encode_prompt without a switch for guidance encodes one prompt; for the negative one it is called again,
# and its results then have these names
NEGATIVE_NAMES = {EMBEDS: NEGATIVE, POOLED: NEGATIVE_POOLED, QWEN_MASK: "negative_prompt_embeds_mask"}


def encode(pipe: Any, prompt: str, kwargs: dict[str, Any]) -> Condition:
    """Text embeddings of one prompt, made as the pipeline's own call would make them.

    Where a family's text encoding is not known, the condition is the text itself: it can be rewritten, but
    not nudged.

    Args:
        pipe: a diffusers pipeline.
        prompt: the text.
        kwargs: the other arguments of the call, such as the negative prompt and the guidance scale.

    Raises:
        UnsupportedError: for a pipeline that takes no text.
    """
    names = _returned_names(pipe)
    if names is None:
        return _as_text(pipe, prompt, kwargs)
    parameters = inspect.signature(pipe.encode_prompt).parameters
    call = inspect.signature(type(pipe).__call__).parameters
    # where the defaults of a pipeline's call and of its encode_prompt differ, those of the call hold
    arguments = {name: kwargs.get(name, call[name].default) for name in parameters if name in call}
    # `prompt_2` belongs to the request's own prompt; another prompt goes to all text encoders
    arguments.update({name: None for name in ("prompt_2", "prompt_3") if name in parameters})
    arguments.update(prompt=prompt, device=pipe._execution_device)
    if "num_images_per_prompt" in parameters:
        arguments["num_images_per_prompt"] = 1
    if "lora_scale" in parameters:
        attention = kwargs.get("cross_attention_kwargs") or kwargs.get("joint_attention_kwargs") or {}
        arguments["lora_scale"] = attention.get("scale")
    if "do_classifier_free_guidance" in parameters:
        arguments["do_classifier_free_guidance"] = is_guided(pipe, kwargs)
    if "_cut_context" in parameters:
        arguments["_cut_context"] = True
    if "text_encoder_index" in parameters:
        return _by_both_encoders(pipe, names, {**arguments, "dtype": pipe.transformer.dtype})
    with torch.no_grad():
        condition = _named(names, pipe.encode_prompt(**arguments))
        negative_prompt = kwargs.get("negative_prompt")
        if "do_classifier_free_guidance" not in parameters and negative_prompt is not None:
            negative = _named(names, pipe.encode_prompt(**{**arguments, "prompt": negative_prompt}))
            condition.update({NEGATIVE_NAMES[k]: v for k, v in negative.items() if NEGATIVE_NAMES[k] in call})
    return condition


def _by_both_encoders(pipe: Any, names: tuple[str | None, ...], arguments: dict[str, Any]) -> Condition:
    """HunyuanDiT's condition: its two text encoders are called one by one, and read 77 and 256 tokens."""
    condition: Condition = {}
    with torch.no_grad():
        for index, (length, suffix) in enumerate(((77, ""), (256, SECOND))):
            returned = pipe.encode_prompt(**arguments, text_encoder_index=index, max_sequence_length=length)
            condition.update({name + suffix: value for name, value in _named(names, returned).items()})
    return condition


def _returned_names(pipe: Any) -> tuple[str | None, ...] | None:
    """The names of what `encode_prompt` returns, inherited ones included; None where not known."""
    for cls in type(pipe).__mro__:
        if cls.__name__ in ENCODE_PROMPT_RETURNS and cls.__module__.startswith("diffusers."):
            return ENCODE_PROMPT_RETURNS[cls.__name__]
        if "encode_prompt" in vars(cls):
            break
    return None


def _as_text(pipe: Any, prompt: str, kwargs: dict[str, Any]) -> Condition:
    """A condition that holds the texts themselves."""
    if "prompt" not in inspect.signature(type(pipe).__call__).parameters:
        raise UnsupportedError(f"{type(pipe).__name__} takes no text")
    negative = kwargs.get("negative_prompt")
    return {"prompt": [prompt], **({} if negative is None else {"negative_prompt": [negative]})}


def is_guided(pipe: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call with `kwargs` runs under classifier-free guidance."""
    default = inspect.signature(type(pipe).__call__).parameters["guidance_scale"].default
    # at Z-Image 0 means no guidance, at the others 1
    none = 0 if type(pipe).__name__ == "ZImagePipeline" else 1
    return float(kwargs.get("guidance_scale", default)) > none


def prompt_embeddings(condition: Condition) -> dict[str, Tensor]:
    """The embeddings of the prompt itself, by argument name: what a nudge may move.

    Raises:
        UnsupportedError: where the family's text encoding is not known, or gives lists of embeddings.
    """
    if EMBEDS not in condition:
        raise UnsupportedError(
            "how this pipeline encodes a prompt is not known; its embeddings cannot be nudged"
        )
    names = (EMBEDS, EMBEDS + SECOND, POOLED)
    embeddings = {name: condition[name] for name in names if condition.get(name) is not None}
    if not all(isinstance(value, Tensor) for value in embeddings.values()):
        raise UnsupportedError(
            "this family keeps its embeddings in lists of any length; they cannot be nudged"
        )
    return embeddings


def pooled_embedding(condition: Condition) -> Tensor | None:
    """One vector for a whole prompt.

    Returns:
        (C,) float32: the text encoder's pooled embedding, else the mean of the token embeddings that no mask
        leaves out. None where a family's embeddings are not known.
    """
    tokens = condition.get(EMBEDS)
    if not isinstance(tokens, Tensor):
        return None
    if condition.get(POOLED) is not None:
        return condition[POOLED][0].float()  # type: ignore[no-any-return]
    masks = [condition[name][0] for name in (MASK, QWEN_MASK, KANDINSKY3_MASK) if name in condition]
    weights = torch.ones(tokens.shape[1]).to(tokens)
    for mask in masks:
        if mask.shape == weights.shape:  # AuraFlow's has another shape, and its masked embeddings are zero
            weights = mask.to(tokens)
    return (tokens[0] * weights[:, None]).sum(0).float() / weights.sum().clamp(min=1).float()


def padded_alike(first: Condition, second: Condition) -> tuple[Condition, Condition]:
    """Both conditions with token sequences of one length.

    The shorter one gets zeros at the end, which its mask leaves out.

    Raises:
        UnsupportedError: where the lengths differ and the family has no mask.
    """
    conditions = (first, second)
    lengths = [prompt_embeddings(condition)[EMBEDS].shape[1] for condition in conditions]
    if lengths[0] == lengths[1]:
        return conditions
    if not any(name in first for name in (MASK, QWEN_MASK, KANDINSKY3_MASK)):
        raise UnsupportedError("the prompts' embeddings differ in length, and this family masks nothing")
    padded = {EMBEDS, MASK, QWEN_MASK, KANDINSKY3_MASK, KANDINSKY3_NEGATIVE_MASK}
    if KANDINSKY3_MASK in first:  # Kandinsky 3 cuts the negative prompt to the same length
        padded.add(NEGATIVE)

    def lengthened(condition: Condition) -> Condition:
        return {k: _padded(v, max(lengths)) if k in padded else v for k, v in condition.items()}

    return lengthened(first), lengthened(second)


def _padded(value: Any, length: int) -> Any:
    """A tensor (1, L, …) with zeros up to a length; anything else as it is."""
    if not isinstance(value, Tensor) or value.shape[1] == length:
        return value
    return torch.cat([value, value.new_zeros(len(value), length - value.shape[1], *value.shape[2:])], dim=1)


def _named(names: tuple[str | None, ...], returned: Any) -> Condition:
    """What `encode_prompt` returned, by argument name, without what is empty or has no name."""
    condition = {
        name: value
        for name, value in zip(names, returned, strict=False)
        if name is not None and value is not None and not (isinstance(value, list) and not value)
    }
    if QWEN_MASK in names and QWEN_MASK not in condition:  # Qwen returns no mask where every token counts
        embeds = condition[EMBEDS]
        condition[QWEN_MASK] = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
    return condition
