"""The one place to steer: a scheduler's `step`, wrapped on the instance for as long as a `with` block lasts.

At `step` guidance, learned variance and sign flips are already done, whatever the pipeline. A new clean
latent is passed on as a shifted `model_output`, so that a multistep scheduler's history holds the steered
prediction and not the original one.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ..errors import ConfigError, PipelineBusyError, UnsupportedError
from .denoised import Affine, affine, rule_for
from .instance import overridden


@dataclass(frozen=True, eq=False)
class Step:
    """What a scheduler is about to do with one prediction.

    index: how many calls of `step` came before within this `steer` block (Heun calls twice per timestep);
    timestep: as the pipeline passed it; sample: (B, C, H, W) or packed (B, L, C) noisy latent; model_output:
    after guidance, as the pipeline passed it (2C channels where the model also predicts its variance);
    affine: the coefficients that turn both into `denoised`.
    """

    index: int
    timestep: Tensor | float
    sample: Tensor
    model_output: Tensor
    affine: Affine

    @functools.cached_property
    def denoised(self) -> Tensor:
        """Predicted clean latent of the shape of `sample`, in float32 at least; computed when first read."""
        mean, _ = _split_variance(self.model_output, self.sample)
        return self.affine.denoise(self.sample, mean)


# below this, shift / b would lose the shift in rounding, or overflow in half precision
_LEAST_B = 1e-5

OnDenoised = Callable[[Step], Tensor | None]
AfterStep = Callable[[Step, Tensor], Tensor | None]


@contextmanager
def steer(
    pipe: Any, on_denoised: OnDenoised | None = None, after_step: AfterStep | None = None
) -> Iterator[None]:
    """Let callbacks see and change every scheduler step of `pipe` until the block ends.

    pipe: a diffusers pipeline, or anything with a `scheduler`.
    on_denoised(step): returns a new clean latent of the shape of `step.denoised`, or None to leave the step
    exactly as it is (the original objects are passed on, and the run is bit-identical to an unsteered one).
    after_step(step, prev_sample): sees the next noisy latent and may return a replacement, or None.

    Whatever a callback raises leaves through the pipeline's call. The scheduler is restored in every case.
    `thresholding`, `clip_sample` and a consistency scheduler's skip apply to the new prediction afterwards,
    as they would to the model's own. A Heun scheduler's second evaluation divides the shift by a sigma that
    may be tiny and multiplies it by a long step: let shifts shrink with `step.affine.sigma` there. DiT's
    latents carry the batch twice. LCM's pipeline hands out the scheduler's clean latent, so that a
    replacement in its last `after_step` shows nowhere. Not re-entrant, since a scheduler carries state: a second block on the
    same scheduler, from this thread or another, raises PipelineBusyError. A scheduler that is not affine in
    its model output raises UnsupportedError at once, when there is a callback.
    """
    scheduler = pipe.scheduler
    if on_denoised is not None or after_step is not None:
        rule_for(scheduler)
    lock = _lock_of(scheduler)
    if not lock.acquire(blocking=False):
        raise PipelineBusyError(
            f"the {type(scheduler).__name__} of this {type(pipe).__name__} is already being steered by "
            "another call; wait until it is done, or give each caller its own pipeline with its own scheduler"
        )
    try:
        # somebody else's wrapper is given back rather than lost
        with overridden(scheduler, step=_SteeredStep(scheduler, scheduler.step, on_denoised, after_step)):
            yield
    finally:
        lock.release()


def unwrapped_call(pipe: Any) -> Callable[..., Any]:
    """The pipeline's `__call__` without its `torch.no_grad`, run with gradients enabled.

    Pass `latents=z.requires_grad_()`, and freeze the modules' parameters first. Return a grad-free tensor
    from the last `after_step`, or ask for `output_type="latent"`: pipelines convert images with `.numpy()`.
    """
    call = inspect.unwrap(type(pipe).__call__)
    decoder = getattr(pipe, "decoder_pipe", None)
    if (
        decoder is not None
    ):  # the second of two stages, whose call turns gradients off by itself, as the first's does
        stage = unwrapped_call(decoder)
        vars(stage).update(decoder.components)  # some look at its parts as well

    @functools.wraps(call)
    def with_gradients(*args: Any, **kwargs: Any) -> Any:
        with torch.enable_grad(), nullcontext() if decoder is None else overridden(pipe, decoder_pipe=stage):
            return call(pipe, *args, **kwargs)

    return with_gradients


@contextmanager
def frozen(pipe: Any) -> Iterator[None]:
    """No parameter of this pipeline takes a gradient, so that none is kept for them."""
    modules = [m for m in pipe.components.values() if isinstance(m, torch.nn.Module)]
    moving = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)


_locks: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def _lock_of(scheduler: Any) -> threading.Lock:
    with _locks_guard:
        return _locks.setdefault(scheduler, threading.Lock())


class _SteeredStep:
    """Stands in for `scheduler.step` and keeps its signature, which pipelines inspect for `eta` and such."""

    def __init__(
        self,
        scheduler: Any,
        original: Callable[..., Any],
        on_denoised: OnDenoised | None,
        after_step: AfterStep | None,
    ) -> None:
        functools.update_wrapper(self, original)
        self._scheduler = scheduler
        self._original = original
        self._signature = inspect.signature(original)
        self._on_denoised = on_denoised
        self._after_step = after_step
        self._calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._on_denoised is None and self._after_step is None:
            return self._original(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        given = bound.arguments
        if given.get("per_token_timesteps") is not None:
            raise UnsupportedError("a timestep per token cannot be steered: there is no one noise level")
        step = Step(
            index=self._calls,
            timestep=given["timestep"],
            sample=given["sample"],
            model_output=given["model_output"],
            # before the original runs, which moves the scheduler's step_index on
            affine=affine(self._scheduler, given["timestep"], given["sample"]),
        )
        self._calls += 1
        wanted = None if self._on_denoised is None else self._on_denoised(step)
        if wanted is None:
            result = self._original(*args, **kwargs)
        else:
            given["model_output"], given["sample"] = _passing_on(step, wanted)
            result = self._original(*bound.args, **bound.kwargs)
        if self._after_step is None:
            return result
        prev_sample = result[0] if isinstance(result, tuple) else result.prev_sample
        replacement = self._after_step(step, prev_sample)
        return result if replacement is None else _replaced(result, prev_sample, replacement)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        # the copy would go on stepping the scheduler that it was copied from
        raise UnsupportedError(
            f"this pipeline copies its {type(self._scheduler).__name__} while it runs: it cannot be steered"
        )


def _split_variance(model_output: Tensor, sample: Tensor) -> tuple[Tensor, Tensor | None]:
    """Prediction and learned variance (None without one): both come in one tensor, along the channels."""
    channels = sample.shape[1]
    if model_output.ndim == sample.ndim and model_output.shape[1] == 2 * channels:
        return model_output[:, :channels], model_output[:, channels:]
    return model_output, None


def _passing_on(step: Step, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """(model_output, sample) from which the scheduler predicts `wanted` as its clean latent."""
    if wanted.shape != step.denoised.shape:
        raise ConfigError(
            f"on_denoised returned shape {tuple(wanted.shape)}, but denoised has {tuple(step.denoised.shape)}"
        )
    shift = wanted.to(step.denoised) - step.denoised
    if abs(step.affine.b) < _LEAST_B:  # no noise left: the model has no say, the sample is the prediction
        moved = step.sample + shift / step.affine.a
        return step.model_output, moved.to(step.sample.dtype)
    mean, variance = _split_variance(step.model_output, step.sample)
    mean = (mean + shift / step.affine.b).to(step.model_output.dtype)
    return mean if variance is None else torch.cat([mean, variance], dim=1), step.sample


def _replaced(result: Any, prev_sample: Tensor, replacement: Tensor) -> Any:
    if replacement.shape != prev_sample.shape:
        raise ConfigError(
            f"after_step returned shape {tuple(replacement.shape)}, but prev_sample has "
            f"{tuple(prev_sample.shape)}"
        )
    replacement = replacement.to(prev_sample)
    if isinstance(result, tuple):
        return (replacement, *result[1:])
    result["prev_sample"] = replacement  # a BaseOutput keeps its attribute and its item in step
    return result
