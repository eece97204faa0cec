"""The one place to steer: a scheduler's `step`, replaced on the instance for as long as a `with` block lasts.

At `step`, guidance, learned variance and sign flips are already done, whatever the pipeline. A new clean
latent is passed on as a shifted `model_output`, so that a multistep scheduler's history holds the steered
prediction.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from steerclear.errors import ConfigError, PipelineBusyError, UnsupportedError
from steerclear.steering.denoised import Affine, HostScheduler, affine, rule_for
from steerclear.steering.instance import overridden


@dataclass(frozen=True, eq=False, kw_only=True)
class Step:
    """What a scheduler is about to do with one prediction.

    Attributes:
        index: how many calls of `step` came before within this `steer` block (Heun calls twice per timestep).
        timestep: as the pipeline passed it.
        sample: noisy latent (B, C, H, W), or packed (B, L, C).
        model_output: after guidance, as the pipeline passed it; 2C channels where the model also predicts its
            variance.
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
"""Step → another clean latent, or None to change nothing."""

AfterStep = Callable[[Step, Tensor], Tensor | None]
"""(step, next noisy latent) → another next noisy latent, or None to change nothing."""


@contextmanager
def steer(
    pipe: Any, on_denoised: OnDenoised | None = None, after_step: AfterStep | None = None
) -> Iterator[None]:
    """Let callbacks see and change every scheduler step of a pipeline until the block ends.

    Whatever a callback raises leaves through the pipeline's call. The scheduler is restored in every case.
    A scheduler carries state, so the block is not re-entrant.

    Know of these cases: `thresholding`, `clip_sample` and a consistency scheduler's skip apply to the new
    prediction as they would to the model's own. A Heun scheduler's second evaluation divides the shift by a
    sigma that may be tiny and multiplies it by a long step; let shifts shrink with `step.affine.sigma` there.
    DiT's latents carry the batch twice. LCM's pipeline hands out the scheduler's clean latent, so a
    replacement in its last `after_step` has no effect.

    Args:
        pipe: a diffusers pipeline, or anything with a `scheduler`.
        on_denoised: called before each step. It returns a new clean latent of the shape of `step.denoised`,
            or None to leave the step exactly as it is: the original objects are passed on, and a run that is
            never changed is bit-identical to the plain one.
        after_step: called after each step with the next noisy latent; it returns a replacement, or None.

    Raises:
        PipelineBusyError: where another block holds the same scheduler, in this thread or another.
        UnsupportedError: at once, for a scheduler that is not affine in its model output, when there is a
            callback.
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
        # another library's wrapper around `step` is called, and restored in the end
        with overridden(
            scheduler,
            step=_SteeredStep(
                scheduler, original=scheduler.step, on_denoised=on_denoised, after_step=after_step
            ),
        ):
            yield
    finally:
        lock.release()


def unwrapped_call(pipe: Any) -> Callable[..., Any]:
    """The pipeline's `__call__` without its `torch.no_grad`, run with gradients enabled.

    Pass `latents=z.requires_grad_()`, and freeze the modules' parameters first, see `frozen`. Return a tensor
    without gradient from the last `after_step`, or ask for `output_type="latent"`: pipelines convert images
    with `.numpy()`.
    """
    call = inspect.unwrap(type(pipe).__call__)
    decoder = getattr(pipe, "decoder_pipe", None)
    if decoder is not None:  # the decoder's own call turns gradients off too
        stage = unwrapped_call(decoder)
        vars(stage).update(decoder.components)  # some pipelines read components from their decoder pipeline

    @functools.wraps(call)
    def with_gradients(*args: Any, **kwargs: Any) -> Any:
        with torch.enable_grad(), nullcontext() if decoder is None else overridden(pipe, decoder_pipe=stage):
            return call(pipe, *args, **kwargs)

    return with_gradients


@contextmanager
def frozen(pipe: Any) -> Iterator[None]:
    """Turn off the gradients of all parameters of a pipeline until the block ends, to save memory."""
    modules = [module for module in pipe.components.values() if isinstance(module, torch.nn.Module)]
    trainable = [p for module in modules for p in module.parameters() if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)


@contextmanager
def uncompiled(pipe: Any) -> Iterator[None]:
    """Until the block ends, a pipeline calls the originals of its compiled modules.

    A compiled module would be compiled once more for gradients, which takes minutes.
    """
    with ExitStack() as stack:
        for stage in (pipe, getattr(pipe, "decoder_pipe", None)):
            for name, component in getattr(stage, "components", {}).items():
                if not isinstance(component, torch.nn.Module):
                    continue
                original = getattr(component, "_orig_mod", component)  # of `torch.compile(module)`
                if original is not component:
                    stack.enter_context(overridden(stage, **{name: original}))
                for module in original.modules():
                    if vars(module).get("_compiled_call_impl") is not None:  # of `module.compile()`
                        stack.enter_context(overridden(module, _compiled_call_impl=None))
        yield


_locks: WeakKeyDictionary[Any, threading.Lock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def _lock_of(scheduler: Any) -> threading.Lock:
    """The lock that blocks on this scheduler share."""
    with _locks_guard:
        return _locks.setdefault(scheduler, threading.Lock())


class _SteeredStep:
    """Replaces `scheduler.step`, and keeps its signature, which pipelines inspect for `eta` and the like."""

    def __init__(
        self,
        scheduler: Any,
        original: Callable[..., Any],
        on_denoised: OnDenoised | None,
        after_step: AfterStep | None,
    ) -> None:
        functools.update_wrapper(self, original)
        self._scheduler = HostScheduler(scheduler)
        self._original = original
        self._signature = inspect.signature(original)
        self._on_denoised = on_denoised
        self._after_step = after_step
        self._calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._on_denoised is None and self._after_step is None:
            return self._original(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        arguments = bound.arguments
        if arguments.get("per_token_timesteps") is not None:
            raise UnsupportedError("a timestep per token cannot be steered: there is no single noise level")
        step = Step(
            index=self._calls,
            timestep=arguments["timestep"],
            sample=arguments["sample"],
            model_output=arguments["model_output"],
            # before the original runs, which increments the scheduler's step_index
            affine=affine(self._scheduler, arguments["timestep"], arguments["sample"]),
        )
        self._calls += 1
        denoised = None if self._on_denoised is None else self._on_denoised(step)
        if denoised is None:
            result = self._original(*args, **kwargs)
        else:
            arguments["model_output"], arguments["sample"] = _inputs_for(step, denoised)
            result = self._original(*bound.args, **bound.kwargs)
        if self._after_step is None:
            return result
        prev_sample = result[0] if isinstance(result, tuple) else result.prev_sample
        replacement = self._after_step(step, prev_sample)
        return result if replacement is None else _with_prev_sample(result, prev_sample, replacement)

    def __deepcopy__(self, memo: Any) -> NoReturn:
        # the copy would step the scheduler that it was copied from
        name = type(self._scheduler.real).__name__
        raise UnsupportedError(f"this pipeline copies its {name} while it runs: it cannot be steered")


def _split_variance(model_output: Tensor, sample: Tensor) -> tuple[Tensor, Tensor | None]:
    """Prediction and learned variance (None without one): both come in one tensor, along the channels."""
    channels = sample.shape[1]
    if model_output.ndim == sample.ndim and model_output.shape[1] == 2 * channels:
        return model_output[:, :channels], model_output[:, channels:]
    return model_output, None


def _inputs_for(step: Step, denoised: Tensor) -> tuple[Tensor, Tensor]:
    """(model_output, sample) from which the scheduler predicts `denoised` as its clean latent."""
    if denoised.shape != step.denoised.shape:
        raise ConfigError(
            f"on_denoised returned shape {tuple(denoised.shape)}, but denoised has "
            f"{tuple(step.denoised.shape)}"
        )
    shift = denoised.to(step.denoised) - step.denoised
    if abs(step.affine.b) < _LEAST_B:  # no noise left: the sample is the prediction, whatever the model says
        moved = step.sample + shift / step.affine.a
        return step.model_output, moved.to(step.sample.dtype)
    mean, variance = _split_variance(step.model_output, step.sample)
    mean = (mean + shift / step.affine.b).to(step.model_output.dtype)
    return mean if variance is None else torch.cat([mean, variance], dim=1), step.sample


def _with_prev_sample(result: Any, prev_sample: Tensor, replacement: Tensor) -> Any:
    """A scheduler's result, tuple or output object, with another next noisy latent."""
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
