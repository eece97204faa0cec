"""E of the objective: the latent itself, or an image encoder that looks at the picture of a latent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from steerclear.encoders.base import Encoder
from steerclear.errors import ConfigError, UnsupportedError
from steerclear.nudge.objective import Objective

if TYPE_CHECKING:
    from steerclear.nudge.base import SteerTask

LATENT, PREVIEW, DECODE = "latent", "preview", "decode"

Look = Callable[[Tensor], Tensor]
"""Latents (B, …) → pixels (B, 3, h, w), about [0, 1]."""


@dataclass(frozen=True, eq=False)
class EncoderSpace:
    """E(L): an encoder's embedding of the picture of a latent. Gradients reach the latents.

    Attributes:
        encoder: differentiable.
        look: makes the pixels, by a preview or a full decode.
    """

    encoder: Encoder
    look: Look

    def __call__(self, latents: Tensor) -> Tensor:
        """Unit-length embeddings (B, D) of latents (B, …)."""
        pixels, size = self.look(latents), self.encoder.size
        if pixels.shape[-2:] != (size, size):
            # `fit` would clamp to [0, 1]; a preview may lie outside, where its gradient must not end
            pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
        return self.encoder(pixels)


def objective(
    task: SteerTask, space: str, preferred: Tensor | None, *, alpha: float, beta: float, gamma: float
) -> Objective:
    """J of a task in a space.

    Args:
        task: gives the unwanted latents, and the encoder's spaces.
        space: LATENT, PREVIEW or DECODE.
        preferred: (D, …) latents; E is applied to them and to the unwanted ones as well.
        alpha: weight of the pull.
        beta: weight of the push.
        gamma: weight of staying near.

    Raises:
        UnsupportedError: where the task's guard has no encoder to steer by.
    """
    if space == LATENT:
        return Objective(preferred, task.unwanted, alpha=alpha, beta=beta, gamma=gamma)
    if task.spaces is None:
        raise UnsupportedError(
            f"this task has no encoder, so J over a {space} is not possible; give the guard an encoder"
        )
    E = task.spaces(space)
    with torch.no_grad():
        points, unwanted = (None if x is None or not len(x) else E(x) for x in (preferred, task.unwanted))
    return Objective(points, unwanted, alpha=alpha, beta=beta, gamma=gamma, space=E)


def check_judges(encoder: Encoder, filters: Sequence[Any]) -> None:
    """Check that the judge is not what was optimised: some filter must look otherwise than by this encoder.

    Args:
        encoder: the one in whose space the guard steers; it must be differentiable.
        filters: those that verify a steered picture. A filter also depends on the encoder that nominates its
            candidates.

    Raises:
        ConfigError: where every filter depends on this encoder, or the encoder is not differentiable.
    """
    if not encoder.differentiable:
        raise ConfigError(f"no gradient passes the encoder {encoder.name!r}; steer by a differentiable one")
    if all(_encoder_fingerprint(filter_) == encoder.fingerprint for filter_ in filters):
        raise ConfigError(
            f"every filter sees by {encoder.name!r}, in whose space the guard steers: a picture could "
            "fool it without changing; add a filter of another encoder or of pixels, or steer by another "
            "encoder"
        )


def _encoder_fingerprint(filter_: Any) -> str | None:
    """The fingerprint of the encoder that a filter depends on, if there is one."""
    encoder = getattr(filter_, "encoder", None) or getattr(getattr(filter_, "gallery", None), "encoder", None)
    return getattr(encoder, "fingerprint", None)
