"""From model output to clean image: the coefficients of `denoised = a · sample + b · model_output`.

Every parameterisation that steerclear accepts is affine, with (k-diffusion's `get_scalings`, per scheduler):

    prediction   variance-exploding (Euler …)     variance-preserving (DDIM …)   flow (SD3, FLUX …)
    epsilon      (1, −σ)                          (1/α, −σ/α)                    (1/α, −σ/α)
    v            (1/(σ²+1), −σ/√(σ²+1))           (α, −σ)                        (1, −σ), the velocity
    sample       (0, 1)                           (0, 1)                         (0, 1)

A scheduler that is not listed here is refused by name: a guess would push an image somewhere unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..errors import UnsupportedError

# diffusers floors alphas_cumprod at 2**-24 where it makes sigmas of a zero-terminal-SNR schedule; so do we
_LEAST_ALPHA = 2.0**-12


@dataclass(frozen=True, slots=True)
class Affine:
    """`denoised = a · sample + b · model_output`, where `sample = alpha · clean + sigma · noise`."""

    a: float
    b: float
    sigma: float
    alpha: float

    def denoise(self, sample: Tensor, model_output: Tensor) -> Tensor:
        """Predicted clean latent x̂₀ of the shape of `sample`, in float32 at least."""
        sample, model_output = _widen(sample), _widen(model_output)
        return self.a * sample + self.b * model_output


def affine(scheduler: Any, timestep: Any, sample: Tensor | None = None) -> Affine:
    """The coefficients that hold at the scheduler's coming `step(model_output, timestep, sample)`.

    scheduler: a diffusers scheduler on which `set_timesteps` has run; timestep: what its `step` is given.
    Reads the scheduler and never changes it, and works before the first step, when `step_index` is unset.
    `sample` is accepted for symmetry with `step` and is not read.

    The prediction is the one *before* `thresholding` or `clip_sample`: these are not affine, and the
    scheduler still applies them, inside `step`, to whatever prediction is passed on. Where alpha is zero
    (zero terminal SNR) and the model predicts epsilon, nothing can be said about the clean latent; alpha is
    floored at 2⁻¹² there, so the coefficients are large and finite. Euler's `s_churn` noise is not counted.

    Raises UnsupportedError for a scheduler or prediction type that does not fit.
    """
    return rule_for(scheduler)(scheduler, timestep)


def rule_for(scheduler: Any) -> Callable[[Any, Any], Affine]:
    """The rule for this scheduler's class, or for the diffusers class that it extends without a new `step`.

    Raises UnsupportedError, which names the scheduler and the reason, where there is none.
    """
    for cls in type(scheduler).__mro__:
        if cls.__name__ in REFUSED:
            raise UnsupportedError(f"{cls.__name__} cannot be steered: {REFUSED[cls.__name__]}")
        if cls.__name__ in RULES and cls.__module__.startswith("diffusers."):
            return RULES[cls.__name__]
        if "step" in vars(cls) or "convert_model_output" in vars(cls):
            break  # a subclass with its own arithmetic: its parent's coefficients may no longer hold
    raise UnsupportedError(
        f"{type(scheduler).__name__} is not known to be affine in its model output, so it cannot be steered; "
        "use one of: " + ", ".join(sorted(RULES))
    )


def _widen(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x


def _prediction(scheduler: Any) -> str:
    return str(getattr(scheduler.config, "prediction_type", "epsilon"))


def _refuse_prediction(scheduler: Any) -> UnsupportedError:
    return UnsupportedError(
        f"{type(scheduler).__name__} with prediction_type={_prediction(scheduler)!r} is not known to fit"
    )


def _step_index(scheduler: Any, timestep: Any) -> int:
    """Which entry of `sigmas` the coming step will read, as the scheduler's `_init_step_index` finds it."""
    if scheduler.step_index is not None:
        return int(scheduler.step_index)
    if getattr(scheduler, "begin_index", None) is not None:
        return int(scheduler.begin_index)
    if isinstance(timestep, Tensor):
        timestep = timestep.to(scheduler.timesteps.device)
    return int(scheduler.index_for_timestep(timestep))


def _current_sigma(scheduler: Any, timestep: Any) -> float:
    return float(scheduler.sigmas[_step_index(scheduler, timestep)])


def _preserving(scheduler: Any, alpha: float, sigma: float) -> Affine:
    match _prediction(scheduler):
        case "epsilon":
            a = max(alpha, _LEAST_ALPHA)
            return Affine(1 / a, -sigma / a, sigma, alpha)
        case "v_prediction":
            return Affine(alpha, -sigma, sigma, alpha)
        case "sample":
            return Affine(0.0, 1.0, sigma, alpha)
    raise _refuse_prediction(scheduler)


def _from_alphas_cumprod(scheduler: Any, timestep: Any) -> Affine:
    """DDIM's formula (12): α² is `alphas_cumprod` at the timestep."""
    alpha_squared = float(scheduler.alphas_cumprod[int(timestep)])
    return _preserving(scheduler, math.sqrt(alpha_squared), math.sqrt(max(0.0, 1 - alpha_squared)))


def _from_ratio(scheduler: Any, timestep: Any) -> Affine:
    """The DPM-Solver family: `sigmas` holds σ/α, or flow's σ where the config says so."""
    ratio = _current_sigma(scheduler, timestep)
    if _prediction(scheduler) == "flow_prediction":
        alpha = 1 - ratio if getattr(scheduler.config, "use_flow_sigmas", False) else 1 / math.hypot(1, ratio)
        return Affine(1.0, -ratio, ratio, alpha)
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return _preserving(scheduler, 1 - ratio, ratio)
    alpha = 1 / math.hypot(1, ratio)
    return _preserving(scheduler, alpha, ratio * alpha)


def _exploding(scheduler: Any, sigma: float) -> Affine:
    match _prediction(scheduler):
        case "epsilon":
            return Affine(1.0, -sigma, sigma, 1.0)
        case "v_prediction":
            return Affine(1 / (sigma**2 + 1), -sigma / math.hypot(1, sigma), sigma, 1.0)
        case "sample" | "original_sample":
            return Affine(0.0, 1.0, sigma, 1.0)
    raise _refuse_prediction(scheduler)


def _from_sigma(scheduler: Any, timestep: Any) -> Affine:
    """Karras et al.'s parameterisation: the sample is clean + σ · noise."""
    return _exploding(scheduler, _current_sigma(scheduler, timestep))


RULES: dict[str, Callable[[Any, Any], Affine]] = {
    "DDIMScheduler": _from_alphas_cumprod,
    "DDPMScheduler": _from_alphas_cumprod,
    "PNDMScheduler": _from_alphas_cumprod,
    "DPMSolverMultistepScheduler": _from_ratio,
    "UniPCMultistepScheduler": _from_ratio,
    "EulerDiscreteScheduler": _from_sigma,
    "EulerAncestralDiscreteScheduler": _from_sigma,
}

REFUSED: dict[str, str] = {
    "KDPM2DiscreteScheduler": "it evaluates the model at interpolated sigmas",
    "KDPM2AncestralDiscreteScheduler": "it evaluates the model at interpolated sigmas",
}
