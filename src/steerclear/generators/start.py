"""Where a regeneration begins: `latents=` where a pipeline takes them, else in the place of what it drew itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.generators.accepted import parameters
from steerclear.steering.instance import overridden


def begins_from_picture(pipe: Any, kwargs: Mapping[str, Any]) -> bool:
    """Image-to-image and inpainting: the pipeline noises the caller's picture, and begins there."""
    return kwargs.get("image") is not None and "strength" in parameters(pipe)


def takes_latents(pipe: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether a call with `latents=` begins exactly there, at the scale of pure noise."""
    takes = parameters(pipe)
    if hasattr(pipe, "decoder_pipe"):
        return False  # they are the prior's
    if begins_from_picture(pipe, kwargs):
        # inpainting of full strength begins from noise; below, `latents=` would be taken for noise
        strength = kwargs.get("strength", takes["strength"].default)
        return "mask_image" in takes and "latents" in takes and strength == 1.0
    return "latents" in takes


def repeated(kwargs: Mapping[str, Any], times: int) -> dict[str, Any]:
    """The one picture to begin from, and its mask, for each of several prompts."""
    own = {name: kwargs[name] for name in ("image", "mask_image") if kwargs.get(name) is not None}
    return {name: one if isinstance(one, list) else [one] * times for name, one in own.items() if times > 1}


@contextmanager
def beginning_with(pipe: Any, sample: Tensor) -> Iterator[None]:
    """Let the pipeline's next call begin with the noisy latent `sample` (B, …), whatever it draws itself.

    Where the pipeline hands over to a decoder of its own, that one is given the sample for what it would draw. Else it is put
    before the denoiser at the first `scale_model_input`, and before the scheduler at the first `step`,
    the two places where every pipeline with such a scheduler shows its latent. Raises UnsupportedError for a scheduler
    without the first, before anything is denoised.
    """
    scheduler = pipe.scheduler
    if hasattr(pipe, "decoder_pipe"):
        with overridden(pipe.decoder_pipe, prepare_latents=lambda *args, **kwargs: sample):
            yield
        return
    if not hasattr(scheduler, "scale_model_input"):
        raise UnsupportedError(
            f"{type(pipe).__name__} takes no latents= for this call, and its {type(scheduler).__name__} shows none before "
            "the denoiser runs: it cannot begin from a given latent"
        )
    original_scale, original_step = scheduler.scale_model_input, scheduler.step
    shown = stepped = False

    def scale_model_input(latent: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        nonlocal shown
        if not shown:
            shown = True
            latent = _in_place_of(latent, sample)
        return original_scale(latent, *args, **kwargs)  # type: ignore[no-any-return]

    signature = inspect.signature(original_step)

    def step(*args: Any, **kwargs: Any) -> Any:
        nonlocal stepped
        if stepped:
            return original_step(*args, **kwargs)
        stepped = True
        if not shown:
            raise UnsupportedError(
                f"{type(pipe).__name__} does not scale its model's input; it cannot begin from a given latent"
            )
        bound = signature.bind(*args, **kwargs)
        bound.arguments["sample"] = _in_place_of(bound.arguments["sample"], sample)
        return original_step(*bound.args, **bound.kwargs)

    step.__signature__ = signature  # type: ignore[attr-defined]
    with overridden(scheduler, scale_model_input=scale_model_input, step=step):
        yield


def _in_place_of(latent: Tensor, sample: Tensor) -> Tensor:
    """The sample as often as guidance has doubled the batch."""
    times = len(latent) // len(sample)
    if latent.shape[1:] != sample.shape[1:] or times * len(sample) != len(latent):
        raise UnsupportedError(
            f"a latent {tuple(sample.shape)} cannot stand in the place of {tuple(latent.shape)}"
        )
    # the very tensor where it fits, so that a gradient by the step's sample is one through the denoiser
    sample = sample.to(latent)
    return sample if times == 1 else torch.cat([sample] * times)
