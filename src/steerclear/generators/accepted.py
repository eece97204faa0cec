"""Check a pipeline before the first request: can it be guarded, and which arguments does its call take?"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from steerclear.errors import ConfigError, InputError, UnsupportedError
from steerclear.steering.call import parameters_of
from steerclear.steering.denoised import rule_for

# diffusers pipelines with a `**kwargs` still read these two retired arguments from it
RETIRED_ARGUMENTS = frozenset(("callback", "callback_steps"))

# components that must be there if the pipeline's class has them and does not call them optional
REQUIRED_COMPONENTS = frozenset(
    (
        "vae",
        "movq",
        "vqgan",
        "unet",
        "transformer",
        "decoder",
        "text_encoder",
        "tokenizer",
        "prior_prior",
        "prior_scheduler",
        "prior_text_encoder",
        "prior_tokenizer",
    )
)

DENOISERS = ("unet", "transformer", "decoder")


def call_parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of the pipeline's `__call__`, by name."""
    return parameters_of(type(pipe))


def check_pipeline(pipe: Any) -> None:
    """Check that a pipeline can be guarded.

    Raises:
        UnsupportedError: for a pipeline that makes no images or takes no diffusion steps, or whose scheduler
            is not known to be affine.
        ConfigError: for a pipeline with a required component missing, without weights, or held twice.
    """
    name = type(pipe).__name__
    refuse_modular(pipe)
    if makes_videos(pipe):
        raise UnsupportedError(f"{name} makes videos; a guard looks at single images and cannot guard it yet")
    components = getattr(pipe, "components", {})
    optional = set(getattr(pipe, "_optional_components", ()))
    required = REQUIRED_COMPONENTS - optional
    if "prompt_embeds" in call_parameters(pipe):  # then embeddings may come from elsewhere, see `given`
        required -= {"text_encoder", "tokenizer"}
    missing = sorted(key for key, component in components.items() if component is None and key in required)
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
    for key, component in components.items():
        weights = getattr(component, "parameters", None)
        # offloaded modules are on the meta device too; their hook loads the weights when they are needed
        if callable(weights) and not hasattr(component, "_hf_hook") and any(p.is_meta for p in weights()):
            raise ConfigError(f"the {key} of this {name} has no weights in memory; load it before guarding")


def refuse_modular(pipe: Any) -> None:
    """Raise UnsupportedError for a modular pipeline: its blocks can be put together in any order."""
    if any(cls.__name__ == "ModularPipeline" for cls in type(pipe).__mro__):
        raise UnsupportedError(
            f"{type(pipe).__name__} is a modular pipeline, whose blocks a guard cannot watch; guard the "
            "ordinary pipeline of the same model: DiffusionPipeline.from_pretrained(…)"
        )


def _check_stages(pipe: Any) -> None:
    """Refuse a decoder without its prior, and a pipeline of both stages that holds parts twice."""
    name, parameters = type(pipe).__name__, call_parameters(pipe)
    if "image_embeds" in parameters and "prompt" not in parameters:
        raise UnsupportedError(
            f"{name} takes image embeddings and no prompt; guard the pipeline that also holds the prior, "
            "e.g. KandinskyV22CombinedPipeline"
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
    """The module that first turns the text into an image embedding; None in a pipeline of one stage."""
    return getattr(pipe, "prior_prior", None) if hasattr(pipe, "decoder_pipe") else None


def denoiser_of(pipe: Any) -> Any | None:
    """The module that predicts at every step; None where the pipeline has none that is known."""
    modules = (getattr(pipe, name, None) for name in DENOISERS)
    return next((module for module in modules if module is not None), None)


def output_fields(pipe: Any) -> set[str]:
    """The names of what the pipeline's call returns, by the output classes of its module in diffusers."""
    for cls in type(pipe).__mro__:
        if cls.__module__.startswith("diffusers.pipelines."):
            outputs = [
                {field.name for field in fields(value)}
                for key, value in vars(sys.modules[cls.__module__]).items()
                if key.endswith("Output") and isinstance(value, type) and is_dataclass(value)
            ]
            return set().union(*outputs)
    return set()


def check_arguments(pipe: Any, kwargs: Mapping[str, Any]) -> None:
    """Check the names of a call's arguments.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments.

    Raises:
        InputError: for one that the pipeline's call does not know.
    """
    parameters = call_parameters(pipe)
    has_kwargs = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if has_kwargs and not type(pipe).__module__.startswith("diffusers."):
        return
    unknown = sorted(set(kwargs) - set(parameters) - (RETIRED_ARGUMENTS if has_kwargs else set()))
    if unknown:
        known = sorted(set(parameters) - {"self", "kwargs"})
        raise InputError(f"{type(pipe).__name__} takes no {', '.join(unknown)}; it takes: {', '.join(known)}")


def makes_videos(pipe: Any) -> bool:
    """Whether the output classes in the pipeline's module have frames, and none has images."""
    names = output_fields(pipe)
    return "frames" in names and "images" not in names
