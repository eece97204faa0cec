"""A prompt as each pipeline family takes it: text embeddings, by the argument names of `__call__`."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Mapping
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.accepted import call_parameters
from steerclear.steering.call import Encoding, call_names, encodings, parameters_of, returned_names
from steerclear.steering.instance import overridden

Condition = dict[str, Any]
"""The pipeline's keyword arguments that hold a prompt's text embeddings, a batch of one."""

EMBEDS, POOLED = "prompt_embeds", "pooled_prompt_embeds"
MASK = "prompt_embeds_mask"
FURTHER_PROMPTS = ("prompt_2", "prompt_3")
# arguments of `encode_prompt` that `encode` sets itself
SET_HERE = frozenset(
    (
        "prompt",
        *FURTHER_PROMPTS,
        "device",
        "do_classifier_free_guidance",
        "lora_scale",
        "num_images_per_prompt",
    )
)


def encode(pipe: Any, prompt: str, kwargs: dict[str, Any]) -> Condition:
    """Text embeddings of one prompt, made as the pipeline's own call would make them.

    The pipeline's `__call__` shows how: it gives its text encoders its own arguments, and unpacks what they
    return into variables with the names of its own arguments. Where this does not say everything, the
    condition is the text itself: it can be rewritten, but not nudged.

    Args:
        pipe: a diffusers pipeline.
        prompt: the text.
        kwargs: the other arguments of the call, such as the negative prompt and the guidance scale.

    Raises:
        UnsupportedError: for a pipeline that takes no text.
    """
    condition: Condition = {}
    if not unknown_encoding(type(pipe)):
        with torch.no_grad():
            for encoding in encodings(type(pipe)):
                condition.update(_encoded(pipe, encoding=encoding, prompt=prompt, kwargs=kwargs))
    return condition if EMBEDS in condition else _as_text(pipe, prompt, kwargs)


def unknown_encoding(cls: type) -> str | None:
    """Why a pipeline's class does not show how it encodes a prompt; None where it does."""
    known = encodings(cls)
    if EMBEDS not in {name for encoding in known for name in _named(cls, encoding)}:
        return "its call shows no prompt_embeds that it takes and makes of a prompt"
    for encoding in known:
        if unclear := [name for name in encoding.arguments if not _is_clear(cls, encoding, name)]:
            return f"its {encoding.method} is given {', '.join(unclear)}, which its call makes itself"
    return None


def _is_clear(cls: type, encoding: Encoding, argument: str) -> bool:
    """Whether an argument of `encode_prompt` follows from the arguments of the pipeline's call."""
    value = encoding.arguments[argument]
    if argument in SET_HERE or argument.startswith("negative_prompt"):
        return argument != "prompt" or _variable(value) in ("prompt", "negative_prompt")
    if isinstance(value, ast.Constant) or _of_self(value):
        return True
    name = _variable(value)
    return (
        name in encoding.returned
        or name in _named(cls, encoding)
        or name in encoding.constants
        or (name in parameters_of(cls) and name not in encoding.assigned)
    )


def _encoded(pipe: Any, encoding: Encoding, prompt: str, kwargs: dict[str, Any]) -> Condition:
    """What one call of `encode_prompt` makes of the prompt, or of the negative one, by argument name."""
    call = call_parameters(pipe)

    def given(name: str) -> Any:
        # where the defaults of a pipeline's call and of its encode_prompt differ, those of the call hold
        return kwargs.get(name, call[name].default)

    attention = kwargs.get("cross_attention_kwargs") or kwargs.get("joint_attention_kwargs") or {}
    negative = _variable(encoding.arguments["prompt"]) == "negative_prompt"
    set_here = {
        "prompt": kwargs.get("negative_prompt") if negative else prompt,
        # `prompt_2` belongs to the request's own prompt; another prompt goes to all text encoders
        **dict.fromkeys(FURTHER_PROMPTS),
        "device": pipe._execution_device,
        # a method that returns one thing alone would put both prompts into it
        "do_classifier_free_guidance": not encoding.alone and is_guided(pipe, kwargs),
        "lora_scale": attention.get("scale"),
        "num_images_per_prompt": 1,
    }
    if set_here["prompt"] is None:
        return {}
    names = _named(type(pipe), encoding)
    arguments: dict[str, Any] = {}
    for name, value in encoding.arguments.items():
        variable = _variable(value)
        if name in set_here:
            arguments[name] = set_here[name]
        elif isinstance(value, ast.Constant):
            arguments[name] = value.value
        elif variable in encoding.constants:
            arguments[name] = encoding.constants[variable]
        elif variable in encoding.returned or variable in names:
            continue  # embeddings that are given in the place of a prompt
        elif variable in call or name in call:
            arguments[name] = given(variable if variable in call else name)
        elif _of_self(value):
            arguments[name] = operator.attrgetter(_of_self(value))(pipe)
    encode_texts = getattr(pipe, encoding.method)
    condition = _with_names(names, encode_texts(**arguments), encoding.alone)
    if encoding.alone and (text := kwargs.get("negative_prompt")) is not None and is_guided(pipe, kwargs):
        returned = encode_texts(**{**arguments, "prompt": text})
        condition.update(_with_names(tuple(f"negative_{name}" for name in names), returned, alone=True))
    return condition


def _named(cls: type, encoding: Encoding) -> tuple[str | None, ...]:
    """The call's arguments that take what `encode_prompt` returns, in its order.

    They have the names of the variables that take it, else of those that the method returns; None for what
    the pipeline's call makes again by itself.
    """
    parameters = parameters_of(cls)
    inside = returned_names(cls, encoding.method)
    if len(inside) != len(encoding.returned) or _variable(encoding.arguments["prompt"]) == "negative_prompt":
        inside = encoding.returned
    return tuple(
        outer if outer in parameters else name if name in parameters else None
        for outer, name in zip(encoding.returned, inside, strict=True)
    )


def _with_names(names: tuple[str | None, ...], returned: Any, alone: bool) -> Condition:
    """What `encode_prompt` returned, by argument name, without what is empty or has no name."""
    if alone:
        returned = (returned,)
    condition = {
        name: value
        for name, value in zip(names, returned, strict=False)
        if name is not None and value is not None and not (isinstance(value, list) and not value)
    }
    for name in names:
        embeds = condition.get((name or "").removesuffix("_mask"))
        if name not in condition and embeds is not None:  # Qwen returns no mask where every token counts
            condition[str(name)] = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
    return condition


def _variable(node: ast.expr) -> str:
    """The variable that an expression is; "" for anything else."""
    return node.id if isinstance(node, ast.Name) else ""


def _of_self(node: ast.expr) -> str:
    """The attribute of the pipeline that an expression is ("transformer.dtype"); "" for anything else."""
    text = ast.unparse(node)
    return text.removeprefix("self.") if re.fullmatch(r"self(\.\w+)+", text) else ""


def _as_text(pipe: Any, prompt: str, kwargs: dict[str, Any]) -> Condition:
    """A condition that holds the texts themselves."""
    if "prompt" not in call_parameters(pipe):
        raise UnsupportedError(f"{type(pipe).__name__} takes no text")
    negative = kwargs.get("negative_prompt")
    return {"prompt": [prompt], **({} if negative is None else {"negative_prompt": [negative]})}


def is_guided(pipe: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call runs under classifier-free guidance, by the pipeline's own rule.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments of the call.
    """
    scales = {
        name: kwargs.get(name, parameter.default)
        for name, parameter in call_parameters(pipe).items()
        if name.endswith("guidance_scale")
    }
    scale = scales.get("guidance_scale", kwargs.get("guidance_scale"))
    if not isinstance(scale, Real):
        return False
    if isinstance(getattr(type(pipe), "do_classifier_free_guidance", None), property):
        with overridden(pipe, **{f"_{name}": value for name, value in scales.items()}):
            return bool(pipe.do_classifier_free_guidance)
    return float(scale) > 1


def runs_unguided(pipe: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call certainly makes no unconditional prediction beside the conditional one.

    True guidance in two calls needs a negative prompt. A diffusers pipeline that never asks whether it is
    guided takes guidance as an embedding, if at all.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments of the call.
    """
    parameters, cls = call_parameters(pipe), type(pipe)
    if "true_cfg_scale" in parameters:
        scale = kwargs.get("true_cfg_scale", parameters["true_cfg_scale"].default)
        return not (isinstance(scale, Real) and float(scale) > 1) or kwargs.get("negative_prompt") is None
    if "guidance_scale" not in parameters:
        return False
    asks = "do_classifier_free_guidance" in call_names(cls)
    embedded = not asks and "prompt" in parameters and not hasattr(pipe, "decoder_pipe")
    return (embedded and cls.__module__.startswith("diffusers.")) or not is_guided(pipe, kwargs)


def prompt_embeddings(condition: Condition) -> dict[str, Tensor]:
    """The embeddings of the prompt itself, by argument name: what a nudge may move.

    Raises:
        UnsupportedError: where the family's text encoding is not known, or gives lists of embeddings.
    """
    if EMBEDS not in condition:
        raise UnsupportedError(
            "how this pipeline encodes a prompt is not known; its embeddings cannot be nudged"
        )
    embeddings = {
        name: value
        for name, value in condition.items()
        if "embeds" in name and "mask" not in name and not name.startswith("negative") and value is not None
    }
    if not all(isinstance(value, Tensor) for value in embeddings.values()):
        raise UnsupportedError(
            "this family keeps its embeddings in lists of any length; they cannot be nudged"
        )
    return embeddings


def can_be_nudged(condition: Condition) -> bool:
    """Whether `prompt_embeddings` gives what can be moved."""
    return isinstance(condition.get(EMBEDS), Tensor)


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
    masks = [condition[name][0] for name in _masks(condition)]
    weights = torch.ones(tokens.shape[1]).to(tokens)
    for mask in masks:
        if mask.shape == weights.shape:  # AuraFlow's has another shape, and its masked embeddings are zero
            weights = mask.to(tokens)
    return (tokens[0] * weights[:, None]).sum(0).float() / weights.sum().clamp(min=1).float()


def padded_alike(first: Condition, second: Condition) -> tuple[Condition, Condition]:
    """Pad the shorter of two conditions, so that both have token sequences of one length.

    Args:
        first: text embeddings, as from `encode`.
        second: likewise.

    Returns:
        Both conditions. The shorter one has zeros at the end, which its mask excludes.

    Raises:
        UnsupportedError: where the lengths differ and the family has no mask.
    """
    conditions = (first, second)
    lengths = [prompt_embeddings(condition)[EMBEDS].shape[1] for condition in conditions]
    if lengths[0] == lengths[1]:
        return conditions
    padded = {EMBEDS, *_masks(first)}
    if len(padded) == 1:
        raise UnsupportedError("the prompts' embeddings differ in length, and this family has no mask")
    if "attention_mask" in first:  # Kandinsky 3 cuts the negative prompt to the same length
        padded |= {"negative_prompt_embeds", "negative_attention_mask"}

    def lengthened(condition: Condition) -> Condition:
        return {k: _padded(v, max(lengths)) if k in padded else v for k, v in condition.items()}

    return lengthened(first), lengthened(second)


def _masks(condition: Condition) -> list[str]:
    """The names of the masks of a prompt's own tokens."""
    return [name for name in condition if "mask" in name and not name.startswith("negative")]


def _padded(value: Any, length: int) -> Any:
    """A tensor (1, L, …) with zeros up to a length; anything else as it is."""
    if not isinstance(value, Tensor) or value.shape[1] == length:
        return value
    return torch.cat([value, value.new_zeros(len(value), length - value.shape[1], *value.shape[2:])], dim=1)
