"""A prompt as each pipeline family takes it: what `encode_prompt` returns, under the names that `__call__` accepts."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError

Condition = dict[str, Any]  # the pipeline's keyword arguments that hold text embeddings, batch of one

EMBEDS, NEGATIVE = "prompt_embeds", "negative_prompt_embeds"
POOLED, NEGATIVE_POOLED = "pooled_prompt_embeds", "negative_pooled_prompt_embeds"
MASK, NEGATIVE_MASK = "prompt_attention_mask", "negative_prompt_attention_mask"
QWEN_MASK = "prompt_embeds_mask"
SECOND = "_2"  # HunyuanDiT gives what its second text encoder makes the same names, and this end
K3_MASK, K3_NEGATIVE_MASK = "attention_mask", "negative_attention_mask"
# in the order in which encode_prompt returns them; None for what the pipeline makes again by itself
RETURNED: dict[str, tuple[str | None, ...]] = {
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
    "Kandinsky3Pipeline": (EMBEDS, NEGATIVE, K3_MASK, K3_NEGATIVE_MASK),
    "AuraFlowPipeline": (EMBEDS, MASK, NEGATIVE, NEGATIVE_MASK),
    "CogView4Pipeline": (EMBEDS, NEGATIVE),
    "ChromaPipeline": (EMBEDS, None, MASK, NEGATIVE, None, NEGATIVE_MASK),
    "QwenImagePipeline": (EMBEDS, QWEN_MASK),
    "ZImagePipeline": (EMBEDS, NEGATIVE),
}
# without a switch for guidance, encode_prompt encodes one prompt, and these pipelines call it again for the negative one
AGAIN = {EMBEDS: NEGATIVE, POOLED: NEGATIVE_POOLED, QWEN_MASK: "negative_prompt_embeds_mask"}


def encode(pipe: Any, prompt: str, kwargs: dict[str, Any]) -> Condition:
    """The text embeddings of one prompt, made as the pipeline's own call with `kwargs` would make them.

    Where a family's text encoding is not known, the condition is the text itself: it can be rewritten, but not nudged.
    Raises UnsupportedError for a pipeline that takes no text.
    """
    names = _returned(pipe)
    if names is None:
        return _as_text(pipe, prompt, kwargs)
    takes = inspect.signature(pipe.encode_prompt).parameters
    call = inspect.signature(type(pipe).__call__).parameters
    # the defaults of a pipeline's call and of its encode_prompt differ: the call's count
    own = {name: kwargs.get(name, call[name].default) for name in takes if name in call}
    # a second prompt for a second encoder belongs to the request's own prompt; another prompt goes to all of them
    own.update({name: None for name in ("prompt_2", "prompt_3") if name in takes})
    own.update(prompt=prompt, device=pipe._execution_device)
    if "num_images_per_prompt" in takes:
        own["num_images_per_prompt"] = 1
    if "lora_scale" in takes:
        attention = kwargs.get("cross_attention_kwargs") or kwargs.get("joint_attention_kwargs") or {}
        own["lora_scale"] = attention.get("scale")
    if "do_classifier_free_guidance" in takes:
        own["do_classifier_free_guidance"] = guided(pipe, kwargs)
    if "_cut_context" in takes:
        own["_cut_context"] = True
    if "text_encoder_index" in takes:
        return _by_both(pipe, names, {**own, "dtype": pipe.transformer.dtype})
    with torch.no_grad():
        condition = _named(names, pipe.encode_prompt(**own))
        negative = kwargs.get("negative_prompt")
        if "do_classifier_free_guidance" not in takes and negative is not None:
            again = _named(names, pipe.encode_prompt(**{**own, "prompt": negative}))
            condition.update({AGAIN[k]: v for k, v in again.items() if AGAIN[k] in call})
    return condition


def _by_both(pipe: Any, names: tuple[str | None, ...], own: dict[str, Any]) -> Condition:
    """HunyuanDiT encodes a prompt twice, by encoders that read 77 and 256 tokens of it."""
    condition: Condition = {}
    with torch.no_grad():
        for index, (length, end) in enumerate(((77, ""), (256, SECOND))):
            made = pipe.encode_prompt(**own, text_encoder_index=index, max_sequence_length=length)
            condition.update({name + end: value for name, value in _named(names, made).items()})
    return condition


def _returned(pipe: Any) -> tuple[str | None, ...] | None:
    """What `encode_prompt` returns, for a diffusers class or one that extends it without another `encode_prompt`."""
    for cls in type(pipe).__mro__:
        if cls.__name__ in RETURNED and cls.__module__.startswith("diffusers."):
            return RETURNED[cls.__name__]
        if "encode_prompt" in vars(cls):
            break
    return None


def _as_text(pipe: Any, prompt: str, kwargs: dict[str, Any]) -> Condition:
    if "prompt" not in inspect.signature(type(pipe).__call__).parameters:
        raise UnsupportedError(f"{type(pipe).__name__} takes no text")
    negative = kwargs.get("negative_prompt")
    return {"prompt": [prompt], **({} if negative is None else {"negative_prompt": [negative]})}


def guided(pipe: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call with `kwargs` runs under classifier-free guidance."""
    default = inspect.signature(type(pipe).__call__).parameters["guidance_scale"].default
    # Z-Image counts its guidance from 0, the others from 1
    return float(kwargs.get("guidance_scale", default)) > (
        0 if type(pipe).__name__ == "ZImagePipeline" else 1
    )


def positive(condition: Condition) -> dict[str, Tensor]:
    """The embeddings of the prompt itself: what a nudge may move. Raises UnsupportedError for lists of them, and for none."""
    if EMBEDS not in condition:
        raise UnsupportedError(
            "how this pipeline encodes a prompt is not known; its embeddings cannot be nudged"
        )
    found = {
        name: condition[name] for name in (EMBEDS, EMBEDS + SECOND, POOLED) if condition.get(name) is not None
    }
    if not all(isinstance(value, Tensor) for value in found.values()):
        raise UnsupportedError(
            "this family keeps its embeddings in lists of any length; they cannot be nudged"
        )
    return found


def meaning(condition: Condition) -> Tensor | None:
    """(C,) what a prompt says as a whole: its pooled embedding, else the mean of its tokens' that no mask leaves out; None where
    a family's embeddings are not known."""
    tokens = condition.get(EMBEDS)
    if not isinstance(tokens, Tensor):
        return None
    if condition.get(POOLED) is not None:
        return condition[POOLED][0].float()  # type: ignore[no-any-return]
    masks = [condition[name][0] for name in (MASK, QWEN_MASK, K3_MASK) if name in condition]
    counted = torch.ones(tokens.shape[1]).to(tokens)
    for mask in masks:
        if mask.shape == counted.shape:  # AuraFlow's is another, and what that leaves out is zero
            counted = mask.to(tokens)
    return (tokens[0] * counted[:, None]).sum(0).float() / counted.sum().clamp(min=1).float()


def matched(one: Condition, other: Condition) -> tuple[Condition, Condition]:
    """Both with sequences and masks as long as the longer one's: zeros at the end, which the masks leave out.

    Raises UnsupportedError where lengths differ and no mask says so.
    """
    lengths = [positive(c)[EMBEDS].shape[1] for c in (one, other)]
    if lengths[0] == lengths[1]:
        return one, other
    if not any(name in one for name in (MASK, QWEN_MASK, K3_MASK)):
        raise UnsupportedError("the prompts' embeddings differ in length, and this family masks nothing")
    grown = {EMBEDS, MASK, QWEN_MASK, K3_MASK, K3_NEGATIVE_MASK}
    if K3_MASK in one:  # it cuts the negative prompt to the same length
        grown.add(NEGATIVE)
    padded = tuple(
        {name: _longer(value, max(lengths)) if name in grown else value for name, value in c.items()}
        for c in (one, other)
    )  # fmt: skip
    return padded[0], padded[1]


def _longer(value: Any, length: int) -> Any:
    if not isinstance(value, Tensor) or value.shape[1] == length:
        return value
    return torch.cat([value, value.new_zeros(len(value), length - value.shape[1], *value.shape[2:])], dim=1)


def _named(names: tuple[str | None, ...], returned: Any) -> Condition:
    found = {
        name: value
        for name, value in zip(names, returned, strict=False)
        if name is not None and value is not None and not (isinstance(value, list) and not value)
    }
    if QWEN_MASK in names and QWEN_MASK not in found:  # where every token counts it returns none
        found[QWEN_MASK] = torch.ones(found[EMBEDS].shape[:2], dtype=torch.long, device=found[EMBEDS].device)
    return found
