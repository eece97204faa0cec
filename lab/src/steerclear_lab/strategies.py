"""Strategies that measure as doing nothing alone, or as making another's pictures (docs/benchmarks/rungs.md).

The product's code can do them, its help and its ladder do not list them. Here they keep their names, for comparison.
"""

from __future__ import annotations

from steerclear.nudge.final_latent import FinalLatent
from steerclear.nudge.noise import Noise
from steerclear.nudge.space import DECODE, PREVIEW
from steerclear.nudge.trajectory import Trajectory

# all that are compared, the plainest of those that do the same first
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
    """The same, regenerated under the nudged condition."""
    return FinalLatent(name="final-latent-encoder+condition", space=DECODE)


def trajectory_encoder() -> Trajectory:
    """J over an encoder's embedding of a preview of `denoised`."""
    return Trajectory(name="trajectory-encoder", nudge_condition=False, space=PREVIEW)


def trajectory_encoder_condition() -> Trajectory:
    """The same, under the nudged condition."""
    return Trajectory(name="trajectory-encoder+condition", space=PREVIEW)


def trajectory_through() -> Trajectory:
    """J's gradient through the denoiser."""
    return Trajectory(name="trajectory-through", nudge_condition=False, through=True)


def trajectory_through_condition() -> Trajectory:
    """The same, under the nudged condition."""
    return Trajectory(name="trajectory-through+condition", through=True)


def noise() -> Noise:
    """The starting noise nudged, under the request's own condition."""
    return Noise(name="noise", nudge_condition=False)
