"""From model output to clean image: the coefficients of `denoised = a · sample + b · model_output`.

Every parameterisation that steerclear accepts is affine, with (k-diffusion's `get_scalings`, per scheduler):

    prediction   variance-exploding (Euler …)     variance-preserving (DDIM …)   flow (SD3, FLUX …)
    epsilon      (1, −σ)                          (1/α, −σ/α)                    (1/α, −σ/α)
    v            (1/(σ²+1), −σ/√(σ²+1))           (α, −σ)                        (1, −σ), the velocity
    sample       (0, 1)                           (0, 1)                         (0, 1)

A scheduler that is not listed here is refused by name: a guess would push an image in an unknown direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import UnsupportedError

# diffusers floors alphas_cumprod at 2**-24 where it computes sigmas of a zero-terminal-SNR schedule; this is
# its root
_LEAST_ALPHA = 2.0**-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """The coefficients of one step: `denoised = a · sample + b · model_output`.

    Attributes:
        a: of the noisy sample.
        b: of the model output.
        sigma: noise level: `sample = alpha · clean + sigma · noise`.
        alpha: signal level.
    """

    a: float
    b: float
    sigma: float
    alpha: float

    def denoise(self, sample: Tensor, model_output: Tensor) -> Tensor:
        """The predicted clean latent x̂₀.

        Args:
            sample: noisy latent (B, …).
            model_output: prediction (B, …) of the same shape.

        Returns:
            (B, …) in float32 at least.
        """
        sample, model_output = _widen(sample), _widen(model_output)
        return self.a * sample + self.b * model_output


def affine(scheduler: Any, timestep: Any, sample: Tensor | None = None) -> Affine:
    """The coefficients that hold at the scheduler's coming `step(model_output, timestep, sample)`.

    Reads the scheduler and never changes it. It also works before the first step, when `step_index` is unset.

    The prediction is the one *before* `thresholding` or `clip_sample`: these are not affine, and the
    scheduler still applies them, inside `step`, to whatever prediction is passed on. Where alpha is zero
    (zero terminal SNR) and the model predicts epsilon, nothing can be said about the clean latent; alpha is
    floored at 2⁻¹² there, so the coefficients are large and finite. Euler's `s_churn` noise is not counted.

    Args:
        scheduler: a diffusers scheduler on which `set_timesteps` has run, or its HostScheduler.
        timestep: what its `step` is given.
        sample: not read; accepted so that the arguments of `step` can be passed on.

    Raises:
        UnsupportedError: for a scheduler or prediction type that does not fit.
    """
    if isinstance(scheduler, HostScheduler):
        return rule_for(scheduler.real)(scheduler, scheduler.timestep(timestep))
    return rule_for(scheduler)(scheduler, timestep)


def rule_for(scheduler: Any) -> Callable[[Any, Any], Affine]:
    """The rule for this scheduler's class, or for the diffusers class that it extends without a new `step`.

    Returns:
        A function (scheduler, timestep) → coefficients.

    Raises:
        UnsupportedError: where there is no rule; it names the scheduler and the reason.
    """
    for cls in type(scheduler).__mro__:
        if cls.__name__ in REFUSED:
            raise UnsupportedError(f"{cls.__name__} cannot be steered: {REFUSED[cls.__name__]}")
        if cls.__name__ in RULES and cls.__module__.startswith("diffusers."):
            return RULES[cls.__name__]
        if "step" in vars(cls) or "convert_model_output" in vars(cls):
            break  # a subclass with its own arithmetic: its parent's coefficients may no longer hold
    raise UnsupportedError(
        f"{_name(scheduler)} is not known to be affine in its model output, so it cannot be steered; "
        "use one of: " + ", ".join(sorted(RULES))
    )


def _widen(x: Tensor) -> Tensor:
    """The tensor in float32 at least."""
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x


def _name(scheduler: Any) -> str:
    """The name of the scheduler's class."""
    return type(scheduler.real if isinstance(scheduler, HostScheduler) else scheduler).__name__


def _prediction(scheduler: Any) -> str:
    """The scheduler's prediction type."""
    return str(getattr(scheduler.config, "prediction_type", "epsilon"))


def _refuse_prediction(scheduler: Any) -> UnsupportedError:
    """The error for a prediction type without a rule."""
    return UnsupportedError(
        f"{_name(scheduler)} with prediction_type={_prediction(scheduler)!r} is not known to fit"
    )


class HostScheduler:
    """A scheduler whose tensors are numpy arrays: each is copied from the device once, and not at every step.

    On a GPU a number that is read from the device makes the program wait for everything that the device still
    has to do. A schedule is set before the first step, so it is read there once. It serves as a scheduler to
    `affine`.

    Args:
        scheduler: a diffusers scheduler on which `set_timesteps` has run.

    Attributes:
        real: that scheduler.
    """

    def __init__(self, scheduler: Any) -> None:
        self.real = scheduler
        self._copies: dict[str, tuple[Tensor, Any]] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.real, name)
        return self._copy(name, value) if isinstance(value, Tensor) and value.ndim == 1 else value

    def timestep(self, timestep: Any) -> Any:
        """A timestep of the schedule as a number; anything else as it is.

        Pipelines walk along `scheduler.timesteps`, so a timestep is an entry of that tensor, and where it
        lies in memory says which, without a look at its value.
        """
        schedule = self.real.timesteps
        if not isinstance(timestep, Tensor) or not isinstance(schedule, Tensor):
            return timestep
        place = timestep.storage_offset() - schedule.storage_offset()
        if (
            timestep.untyped_storage().data_ptr() != schedule.untyped_storage().data_ptr()
            or (timestep.numel() != 1 and any(timestep.stride()))
            or schedule.stride() != (1,)
            or not 0 <= place < len(schedule)
        ):
            return timestep
        return self._copy("timesteps", schedule)[place].item()

    def _copy(self, name: str, value: Tensor) -> Any:
        """The numpy array of a tensor, copied where the scheduler holds another tensor than before."""
        if self._copies.get(name, (None,))[0] is not value:
            wide = value.detach().to("cpu", torch.float32 if value.dtype == torch.bfloat16 else None)
            self._copies[name] = value, wide.numpy().copy()
        return self._copies[name][1]


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
    """The entry of `sigmas` that the coming step will read."""
    return float(scheduler.sigmas[_step_index(scheduler, timestep)])


def _as_number(scheduler: Any, timestep: Any) -> float:
    """The timestep as a number, where a batch shares one."""
    if not isinstance(timestep, Tensor):
        return float(timestep)
    first = timestep.reshape(-1)[0]
    if not bool((timestep == first).all()):
        raise UnsupportedError(f"{_name(scheduler)} with a timestep per image is not supported")
    return float(first)


def _preserving(scheduler: Any, alpha: float, sigma: float) -> Affine:
    """Variance-preserving: the sample is alpha · clean + sigma · noise, with alpha² + sigma² = 1."""
    match _prediction(scheduler):
        case "epsilon":
            a = alpha or _LEAST_ALPHA
            return Affine(a=1 / a, b=-sigma / a, sigma=sigma, alpha=alpha)
        case "v_prediction":
            return Affine(a=alpha, b=-sigma, sigma=sigma, alpha=alpha)
        case "sample":
            return Affine(a=0.0, b=1.0, sigma=sigma, alpha=alpha)
    raise _refuse_prediction(scheduler)


def _from_alphas_cumprod(scheduler: Any, timestep: Any) -> Affine:
    """DDIM's formula (12): α² is `alphas_cumprod` at the timestep."""
    alpha_squared = float(scheduler.alphas_cumprod[int(_as_number(scheduler, timestep))])
    return _preserving(scheduler, math.sqrt(alpha_squared), math.sqrt(max(0.0, 1 - alpha_squared)))


def _from_ratio(scheduler: Any, timestep: Any) -> Affine:
    """The DPM-Solver family: `sigmas` holds σ/α, or flow's σ where the config says so."""
    ratio = _current_sigma(scheduler, timestep)
    if _prediction(scheduler) == "flow_prediction":
        alpha = 1 - ratio if getattr(scheduler.config, "use_flow_sigmas", False) else 1 / math.hypot(1, ratio)
        return Affine(a=1.0, b=-ratio, sigma=ratio, alpha=alpha)
    if getattr(scheduler.config, "use_flow_sigmas", False):
        return _preserving(scheduler, 1 - ratio, ratio)
    alpha = 1 / math.hypot(1, ratio)
    return _preserving(scheduler, alpha, ratio * alpha)


def _exploding(scheduler: Any, sigma: float) -> Affine:
    """Variance-exploding: the sample is clean + sigma · noise."""
    match _prediction(scheduler):
        case "epsilon":
            return Affine(a=1.0, b=-sigma, sigma=sigma, alpha=1.0)
        case "v_prediction":
            return Affine(a=1 / (sigma**2 + 1), b=-sigma / math.hypot(1, sigma), sigma=sigma, alpha=1.0)
        case "sample" | "original_sample":
            return Affine(a=0.0, b=1.0, sigma=sigma, alpha=1.0)
    raise _refuse_prediction(scheduler)


def _from_sigma(scheduler: Any, timestep: Any) -> Affine:
    """Karras et al.'s parameterisation: the sample is clean + σ · noise."""
    return _exploding(scheduler, _current_sigma(scheduler, timestep))


def _preconditioned(scheduler: Any, timestep: Any) -> Affine:
    """EDM's c_skip and c_out (Karras et al., table 1), around a network that sees unit variance."""
    sigma, data = _current_sigma(scheduler, timestep), float(scheduler.config.sigma_data)
    skip, out = data**2 / (sigma**2 + data**2), sigma * data / math.hypot(sigma, data)
    match _prediction(scheduler):
        case "epsilon":
            return Affine(a=skip, b=out, sigma=sigma, alpha=1.0)
        case "v_prediction":
            return Affine(a=skip, b=-out, sigma=sigma, alpha=1.0)
    raise _refuse_prediction(scheduler)


def _flow(scheduler: Any, timestep: Any) -> Affine:
    """Rectified flow: the sample is (1 − σ) · clean + σ · noise, the output its derivative by σ."""
    sigma = _current_sigma(scheduler, timestep)
    if not getattr(scheduler.config, "invert_sigmas", False):
        return Affine(a=1.0, b=-sigma, sigma=sigma, alpha=1 - sigma)
    if _name(scheduler) != "FlowMatchEulerDiscreteScheduler" or scheduler.config.stochastic_sampling:
        raise UnsupportedError(f"{_name(scheduler)} with invert_sigmas=True is not known to fit")
    # Mochi's convention: sigmas rise from 0 to 1 and stand for the share of the clean image
    return Affine(a=1.0, b=1 - sigma, sigma=1 - sigma, alpha=sigma)


def _minimax(scheduler: Any, timestep: Any) -> Affine:
    """Flow whose timestep is the share of the clean image, in [0, 1]; the output points towards it."""
    sigma = 1 - _as_number(scheduler, timestep)
    return Affine(a=1.0, b=sigma, sigma=sigma, alpha=1 - sigma)


def _dpm_sde(scheduler: Any, timestep: Any) -> Affine:
    """Euler's form; every second call evaluates at the geometric mean of two neighbouring sigmas."""
    index = _step_index(scheduler, timestep)
    if scheduler.state_in_first_order:
        return _exploding(scheduler, float(scheduler.sigmas[index]))
    return _exploding(scheduler, math.sqrt(float(scheduler.sigmas[index - 1] * scheduler.sigmas[index])))


def _ipndm(scheduler: Any, timestep: Any) -> Affine:
    """v-prediction on a cosine schedule that the scheduler keeps by step."""
    index = _step_index(scheduler, timestep)
    alpha, sigma = float(scheduler.alphas[index]), float(scheduler.betas[index])
    return Affine(a=alpha, b=-sigma, sigma=sigma, alpha=alpha)


def _consistency(scheduler: Any, timestep: Any) -> Affine:
    """Consistency models' boundary scalings; b is 0 at sigma_min, where the sample is the prediction."""
    sigma = _current_sigma(scheduler, timestep)
    skip, out = scheduler.get_scalings_for_boundary_condition(sigma)
    return Affine(a=float(skip), b=float(out), sigma=sigma, alpha=1.0)


def _trigonometric(scheduler: Any, timestep: Any) -> Affine:
    """SCM: the timestep is an angle. Its clean latent is sigma_data times the autoencoder's."""
    angle = float(scheduler.timesteps[_step_index(scheduler, timestep)])
    return Affine(a=math.cos(angle), b=-math.sin(angle), sigma=math.sin(angle), alpha=math.cos(angle))


def _wuerstchen(scheduler: Any, timestep: Any) -> Affine:
    """Epsilon on a cosine schedule over timesteps in [0, 1]."""
    t = torch.tensor([_as_number(scheduler, timestep)])
    alpha_squared = float(scheduler._alpha_cumprod(t, t.device))
    alpha = math.sqrt(alpha_squared) or _LEAST_ALPHA
    sigma = math.sqrt(1 - alpha_squared)
    return Affine(a=1 / alpha, b=-sigma / alpha, sigma=sigma, alpha=alpha)


RULES: dict[str, Callable[[Any, Any], Affine]] = {
    "CMStochasticIterativeScheduler": _consistency,
    "CogVideoXDDIMScheduler": _from_alphas_cumprod,
    "CogVideoXDPMScheduler": _from_alphas_cumprod,
    "CosineDPMSolverMultistepScheduler": _preconditioned,
    "DDIMParallelScheduler": _from_alphas_cumprod,
    "DDIMScheduler": _from_alphas_cumprod,
    "DDPMParallelScheduler": _from_alphas_cumprod,
    "DDPMScheduler": _from_alphas_cumprod,
    "DDPMWuerstchenScheduler": _wuerstchen,
    "DEISMultistepScheduler": _from_ratio,
    "DPMSolverMultistepScheduler": _from_ratio,
    "DPMSolverSDEScheduler": _dpm_sde,
    "DPMSolverSinglestepScheduler": _from_ratio,
    "EDMDPMSolverMultistepScheduler": _preconditioned,
    "EDMEulerScheduler": _preconditioned,
    "EulerAncestralDiscreteScheduler": _from_sigma,
    "EulerDiscreteScheduler": _from_sigma,
    "FlowMatchEulerDiscreteScheduler": _flow,
    "FlowMatchHeunDiscreteScheduler": _flow,
    "FlowMatchLCMScheduler": _flow,
    "HeunDiscreteScheduler": _from_sigma,
    "IPNDMScheduler": _ipndm,
    "LCMScheduler": _from_alphas_cumprod,
    "LMSDiscreteScheduler": _from_sigma,
    "LTXEulerAncestralRFScheduler": _flow,
    "MiniMaxH3Scheduler": _minimax,
    "PNDMScheduler": _from_alphas_cumprod,
    "RePaintScheduler": _from_alphas_cumprod,
    "SASolverScheduler": _from_ratio,
    "SCMScheduler": _trigonometric,
    "TCDScheduler": _from_alphas_cumprod,
    "UnCLIPScheduler": _from_alphas_cumprod,
    "UniPCMultistepScheduler": _from_ratio,
}

_INTERPOLATED = "it evaluates the model between its own noise levels"
_INVERSION = "it runs from an image to noise"
_DISCRETE = "it samples tokens, not a continuous latent"
_DEPRECATED = "it has no single step with a model output, or diffusers has retired it"

REFUSED: dict[str, str] = {
    "AmusedScheduler": _DISCRETE,
    "BlockRefinementScheduler": _DISCRETE,
    "ConsistencyDecoderScheduler": "it belongs to an autoencoder that decodes by diffusion",
    "DDIMInverseScheduler": _INVERSION,
    "DPMSolverMultistepInverseScheduler": _INVERSION,
    "DiscreteDDIMScheduler": _DISCRETE,
    "EntropyBoundScheduler": _DISCRETE,
    "FlowMapEulerDiscreteScheduler": "its model predicts the average velocity between two times",
    "HeliosDMDScheduler": "its noise levels are arguments of each step, not its own",
    "HeliosScheduler": "it changes noise levels and resolution in stages of a video",
    "KDPM2AncestralDiscreteScheduler": _INTERPOLATED,
    "KDPM2DiscreteScheduler": _INTERPOLATED,
    "KarrasVeScheduler": _DEPRECATED,
    "PiflowScheduler": "its model predicts a policy, not a clean latent",
    "RFD4ProteinaScheduler": "it moves protein coordinates",
    "ScoreSdeVeScheduler": _DEPRECATED,
    "ScoreSdeVpScheduler": _DEPRECATED,
    "VQDiffusionScheduler": _DISCRETE,
}
