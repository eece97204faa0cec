"""Strategies that the product does not list, by name: alone they do nothing, or they draw what another one
draws.

docs/benchmarks/rungs.md has the measurements. The product has their code but names them neither in its help
nor in its ladder; here they keep their names, for comparison.
"""

from __future__ import annotations

from steerclear.nudge.final_latent import FinalLatent
from steerclear.nudge.noise import Noise
from steerclear.nudge.space import DECODE, PREVIEW
from steerclear.nudge.trajectory import Trajectory

# all strategies that are compared; of those that draw the same, the simplest comes first
STRATEGIES = (
    "condition",
    "rewrite",
    "despecified",
    "magnitude",
    "guidance-window",
    "final-latent",
    "final-latent+condition",
    "trajectory",
    "trajectory+condition",
    "final-latent-encoder",
    "final-latent-encoder+condition",
    "trajectory-encoder",
    "trajectory-encoder+condition",
    "trajectory-through",
    "trajectory-through+condition",
    "shield",
    "shield+condition",
    "noise",
    "noise+condition",
    "resample",
)


def final_latent_encoder() -> FinalLatent:
    """J over an encoder's embedding of the decoded latent."""
    return FinalLatent(name="final-latent-encoder", nudge_condition=False, space=DECODE)


def final_latent_encoder_condition() -> FinalLatent:
    """J over an encoder's embedding of the decoded latent, regenerated under the nudged condition."""
    return FinalLatent(name="final-latent-encoder+condition", space=DECODE)


def trajectory_encoder() -> Trajectory:
    """J over an encoder's embedding of a preview of `denoised`."""
    return Trajectory(name="trajectory-encoder", nudge_condition=False, space=PREVIEW)


def trajectory_encoder_condition() -> Trajectory:
    """J over an encoder's embedding of a preview of `denoised`, under the nudged condition."""
    return Trajectory(name="trajectory-encoder+condition", space=PREVIEW)


def trajectory_through() -> Trajectory:
    """J with its gradient through the denoiser."""
    return Trajectory(name="trajectory-through", nudge_condition=False, through=True)


def trajectory_through_condition() -> Trajectory:
    """J with its gradient through the denoiser, under the nudged condition."""
    return Trajectory(name="trajectory-through+condition", through=True)


def noise() -> Noise:
    """Nudge the starting noise, under the request's own condition."""
    return Noise(name="noise", nudge_condition=False)
