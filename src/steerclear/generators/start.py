"""How a regeneration begins: its arguments, and its noise in place of what the pipeline draws."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.accepted import call_parameters
from steerclear.generators.conditions import EMBEDS, Condition
from steerclear.steering.call import call_names
from steerclear.steering.instance import overridden

# arguments that a regeneration sets itself, so that the caller's must not be passed on as well
NOT_PASSED_ON = frozenset(
    (
        "prompt",
        "prompt_2",
        "prompt_3",
        "negative_prompt",
        "negative_prompt_2",
        "negative_prompt_3",
        "prompt_embeds",
        "negative_prompt_embeds",
        "class_labels",
        "num_images_per_prompt",
        "generator",
        "latents",
    )
)
CALLBACKS = ("callback", "callback_steps", "callback_on_step_end", "callback_on_step_end_tensor_inputs")


def begins_from_picture(pipe: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call is image-to-image or inpainting, which begins from the caller's picture with noise
    added.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments of the call.
    """
    return kwargs.get("image") is not None and "strength" in call_parameters(pipe)


def takes_latents(pipe: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call with `latents=` begins from exactly these, at the scale of pure noise.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments of the call.
    """
    parameters = call_parameters(pipe)
    if hasattr(pipe, "decoder_pipe"):
        return False  # its `latents=` are the prior's
    if begins_from_picture(pipe, kwargs) and not _scales(pipe):
        return False  # what it prepares is noise and picture mixed, which `starting_with` replaces
    if begins_from_picture(pipe, kwargs):
        # inpainting at full strength begins from noise; below it, `latents=` would be taken for noise
        strength = kwargs.get("strength", parameters["strength"].default)
        return "mask_image" in parameters and "latents" in parameters and strength == 1.0
    return "latents" in parameters


def noise_scale(pipe: Any) -> float:
    """Standard deviation of the scheduler's pure noise."""
    return float(getattr(pipe.scheduler, "init_noise_sigma", 1.0))


def start_scale(pipe: Any, kwargs: Mapping[str, Any]) -> float:
    """The factor by which the pipeline multiplies `latents=`; 1 where the call takes none.

    Args:
        pipe: a diffusers pipeline.
        kwargs: the arguments of the call.
    """
    return noise_scale(pipe) if takes_latents(pipe, kwargs) else 1.0


def regeneration_arguments(
    pipe: Any,
    condition: Condition,
    start: Tensor | None,
    *,
    kwargs: Mapping[str, Any],
    generator: torch.Generator,
) -> dict[str, Any]:
    """The arguments of a call that makes a picture again under another condition.

    Args:
        pipe: a diffusers pipeline.
        condition: text embeddings of B prompts.
        start: (B, …) the noise, as in `steerclear.generators.Pass`; None to begin with what the pipeline
            draws.
        kwargs: the caller's own arguments.
        generator: for what the pipeline draws.

    Returns:
        The call's arguments, and beside them `first_sample`: `start` where the call takes no `latents`, else
        None.
    """
    parameters = call_parameters(pipe)
    arguments = {k: v for k, v in kwargs.items() if k not in NOT_PASSED_ON}
    if EMBEDS in condition and "negative_prompt" in parameters:
        # some families default to "", which they refuse beside embeddings
        arguments["negative_prompt"] = None
    if EMBEDS in condition and parameters["prompt"].default is inspect.Parameter.empty:
        arguments["prompt"] = None
    if "guidance_scale" not in parameters and ("kwargs" not in parameters or hasattr(pipe, "decoder_pipe")):
        arguments.pop("guidance_scale", None)  # a strategy sets it to 1, whatever the pipeline
    if start is not None and begins_from_picture(pipe, kwargs):
        arguments.update(_repeated_pictures(arguments, len(start)))
    if start is not None and takes_latents(pipe, kwargs):
        arguments["latents"], start = _unpacked(pipe, start, kwargs), None
    return {**arguments, **condition, "generator": generator, "first_sample": start}


def _repeated_pictures(kwargs: Mapping[str, Any], times: int) -> dict[str, Any]:
    """The call's picture and mask, repeated for each of several prompts; nothing for one prompt."""
    pictures = {name: kwargs[name] for name in ("image", "mask_image") if kwargs.get(name) is not None}
    return {
        name: value if isinstance(value, list) else [value] * times
        for name, value in pictures.items()
        if times > 1
    }


def _unpacked(pipe: Any, start: Tensor, kwargs: Mapping[str, Any]) -> Tensor:
    """The noise as `latents=` takes it: as the scheduler sees it, but unpacked for FLUX.2."""
    if not type(pipe).__name__.startswith("Flux2"):
        return start
    factor = pipe.vae_scale_factor * 2
    height, width = (
        int(kwargs.get(side) or pipe.default_sample_size * pipe.vae_scale_factor) // factor
        for side in ("height", "width")
    )
    return start.reshape(len(start), height, width, -1).permute(0, 3, 1, 2)


@contextmanager
def starting_with(pipe: Any, sample: Tensor) -> Iterator[None]:
    """Let the pipeline's next call begin with a given noisy latent, whatever it draws itself.

    A pipeline with a decoder pipeline of its own gets the sample from that one's `prepare_latents`. In any
    other the sample takes the latent's place at the first `scale_model_input`, before the denoiser, and at
    the first `step`. Where a pipeline scales nothing, as under a flow-matching scheduler, it takes the place
    of what `prepare_latents` returns first.

    Args:
        pipe: a diffusers pipeline.
        sample: (B, …) the noisy latent of the first step.

    Raises:
        UnsupportedError: where the pipeline shows its latent nowhere before it denoises.
    """
    scheduler = pipe.scheduler
    if hasattr(pipe, "decoder_pipe"):
        with overridden(pipe.decoder_pipe, prepare_latents=lambda *args, **kwargs: sample):
            yield
        return
    if not _scales(pipe):
        with _preparing(pipe, sample):
            yield
        return
    original_scale, original_step = scheduler.scale_model_input, scheduler.step
    scaled = stepped = False

    def scale_model_input(latent: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal scaled
        if not scaled:
            scaled = True
            latent = _in_place_of(latent, sample)
        return original_scale(latent, *args, **kwargs)  # type: ignore[no-any-return]

    signature = inspect.signature(original_step)

    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal stepped
        if stepped:
            return original_step(*args, **kwargs)
        stepped = True
        if not scaled:
            raise UnsupportedError(
                f"{type(pipe).__name__} does not scale its model's input; it cannot begin from a given latent"
            )
        bound = signature.bind(*args, **kwargs)
        bound.arguments["sample"] = _in_place_of(bound.arguments["sample"], sample)
        return original_step(*bound.args, **bound.kwargs)

    step.__signature__ = signature  # type: ignore[attr-defined]
    with overridden(scheduler, scale_model_input=scale_model_input, step=step):
        yield


def _scales(pipe: Any) -> bool:
    """Whether a pipeline shows its latent to its scheduler before it denoises."""
    if not hasattr(pipe.scheduler, "scale_model_input"):
        return False
    return "scale_model_input" in call_names(type(pipe)) or not hasattr(pipe, "prepare_latents")


@contextmanager
def _preparing(pipe: Any, sample: Tensor) -> Iterator[None]:
    """Let `prepare_latents` return a given noisy latent first, and beside it whatever else it returns."""
    original = getattr(pipe, "prepare_latents", None)
    if original is None:
        raise UnsupportedError(
            f"{type(pipe).__name__} takes no latents= for this call, and shows none before it denoises: "
            "it cannot begin from a given latent"
        )

    @wraps(original)
    def prepare_latents(*args: Any, **kwargs: Any) -> Any:
        prepared = original(*args, **kwargs)
        if isinstance(prepared, Tensor):
            return _in_place_of(prepared, sample)
        return (_in_place_of(prepared[0], sample), *prepared[1:])

    with overridden(pipe, prepare_latents=prepare_latents):
        yield


def _in_place_of(latent: Tensor, sample: Tensor) -> Tensor:
    """The sample, repeated as often as guidance has repeated the batch in `latent`."""
    times = len(latent) // len(sample)
    if latent.shape[1:] != sample.shape[1:] or times * len(sample) != len(latent):
        raise UnsupportedError(
            f"a latent {tuple(sample.shape)} cannot stand in the place of {tuple(latent.shape)}"
        )
    # where nothing is repeated, the very tensor: a gradient with respect to it then goes through the denoiser
    sample = sample.to(latent)
    return sample if times == 1 else torch.cat([sample] * times)
