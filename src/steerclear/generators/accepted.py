"""Before the first request: whether a pipeline can be guarded at all, and what its call takes."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from steerclear.errors import ConfigError, InputError, UnsupportedError
from steerclear.steering.denoised import rule_for

# diffusers pipelines swallow unknown arguments where they still take these two retired ones
RETIRED = frozenset(("callback", "callback_steps"))

# of a pipeline that has them; a second or third text encoder may be left out, as is usual with SD3's T5
NEEDED = frozenset(
    (
        "vae", "movq", "vqgan", "unet", "transformer", "decoder", "text_encoder", "tokenizer",
        "prior_prior", "prior_scheduler", "prior_text_encoder", "prior_tokenizer",
    )
)  # fmt: skip

DENOISERS = ("unet", "transformer", "decoder")


def parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """What the pipeline's call takes, by name."""
    return inspect.signature(type(pipe).__call__).parameters


def check_pipeline(pipe: Any) -> None:
    """Raise UnsupportedError for a pipeline that makes no images or no diffusion steps, or whose scheduler is not known to
    fit; ConfigError for one with a required component missing, or left without weights."""
    name = type(pipe).__name__
    if _makes_videos(pipe):
        raise UnsupportedError(f"{name} makes videos; a guard looks at single images and cannot guard it yet")
    components = getattr(pipe, "components", {})
    optional = set(getattr(pipe, "_optional_components", ()))
    missing = sorted(key for key, v in components.items() if v is None and key in NEEDED - optional)
    if missing:
        raise ConfigError(f"this {name} has no {', '.join(missing)}; load the whole pipeline")
    if getattr(pipe, "scheduler", None) is None:
        raise UnsupportedError(f"{name} has no scheduler, so its steps cannot be seen; it cannot be guarded")
    rule_for(pipe.scheduler)
    if denoiser_of(pipe) is None:
        raise UnsupportedError(
            f"{name} has neither a unet nor a transformer nor a decoder; it cannot be guarded yet"
        )
    _check_stages(pipe)
    for key, value in components.items():
        weights = getattr(value, "parameters", None)
        # offloading leaves its own hook, which brings the weights back when they are needed
        if callable(weights) and not hasattr(value, "_hf_hook") and any(p.is_meta for p in weights()):
            raise ConfigError(f"the {key} of this {name} has no weights in memory; load it before guarding")


def _check_stages(pipe: Any) -> None:
    """A decoder without its prior takes image embeddings; a pipeline of both must hold its parts only once."""
    name, takes = type(pipe).__name__, parameters(pipe)
    if "image_embeds" in takes and "prompt" not in takes:
        raise UnsupportedError(
            f"{name} takes image embeddings and no prompt; guard the pipeline that also holds the prior, e.g. "
            "KandinskyV22CombinedPipeline"
        )
    decoder = getattr(pipe, "decoder_pipe", None)
    if decoder is None:
        return
    for part in ("scheduler", *(key for key in DENOISERS if getattr(pipe, key, None) is not None)):
        if getattr(decoder, part, None) is not getattr(pipe, part):
            raise ConfigError(
                f"this {name} uses another {part}, pipe.decoder_pipe.{part}; set both to the same"
            )
    if getattr(pipe, "prior_scheduler", None) is pipe.scheduler:
        raise ConfigError(f"prior and decoder of this {name} share one scheduler; give each its own")


def prior_of(pipe: Any) -> Any | None:
    """The module that makes an image embedding of the text beforehand, in a pipeline of both stages."""
    return getattr(pipe, "prior_prior", None) if hasattr(pipe, "decoder_pipe") else None


def denoiser_of(pipe: Any) -> Any | None:
    """The module that is asked at every step."""
    known = (getattr(pipe, name, None) for name in DENOISERS)
    return next((module for module in known if module is not None), None)


def check_arguments(pipe: Any, kwargs: Mapping[str, Any]) -> None:
    """Raise InputError for an argument that the pipeline's call does not know."""
    takes = parameters(pipe)
    swallows = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in takes.values())
    if swallows and not type(pipe).__module__.startswith("diffusers."):
        return
    unknown = sorted(set(kwargs) - set(takes) - (RETIRED if swallows else set()))
    if unknown:
        known = sorted(set(takes) - {"self", "kwargs"})
        raise InputError(f"{type(pipe).__name__} takes no {', '.join(unknown)}; it takes: {', '.join(known)}")


def _makes_videos(pipe: Any) -> bool:
    """By the output class that the pipeline's module speaks of: frames, and no images."""
    for cls in type(pipe).__mro__:
        if not cls.__module__.startswith("diffusers.pipelines."):
            continue
        outputs = [
            {field.name for field in fields(value)}
            for key, value in vars(sys.modules[cls.__module__]).items()
            if key.endswith("Output") and isinstance(value, type) and is_dataclass(value)
        ]
        frames = any("frames" in names for names in outputs)
        return frames and not any("images" in names for names in outputs)
    return False
