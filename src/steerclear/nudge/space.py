"""E of the objective: the latent itself, or an image encoder that looks at what the latent shows."""

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
SPACES = (LATENT, PREVIEW, DECODE)

Look = Callable[[Tensor], Tensor]  # latents (B, …) → pixels (B, 3, h, w), about [0, 1]


@dataclass(frozen=True, eq=False)
class EncoderSpace:
    """E(L): an encoder's embedding of the pixels that `look` makes of latents. Gradients reach the latents."""

    encoder: Encoder
    look: Look

    def __call__(self, latents: Tensor) -> Tensor:
        """latents: (B, …). Returns (B, D), unit length."""
        pixels, size = self.look(latents), self.encoder.size
        if pixels.shape[-2:] != (size, size):
            # not `fit`, which clamps: a preview may leave [0, 1], and its gradient must not end there
            pixels = F.interpolate(pixels, size=(size, size), mode="bilinear", antialias=True)
        return self.encoder(pixels)


def objective(
    task: SteerTask, space: str, preferred: Tensor | None, alpha: float, beta: float, gamma: float
) -> Objective:
    """J of a task in a space. preferred: (D, …) latents; they and the unwanted ones are brought there by E as well.

    Raises UnsupportedError where the task's guard has no encoder to steer by.
    """
    if space == LATENT:
        return Objective(preferred, task.unwanted, alpha, beta, gamma)
    if task.spaces is None:
        raise UnsupportedError(f"nothing looks at this task's latents, so J over a {space} is not to be had")
    E = task.spaces(space)
    with torch.no_grad():
        wanted, unwanted = (None if x is None or not len(x) else E(x) for x in (preferred, task.unwanted))
    return Objective(wanted, unwanted, alpha, beta, gamma, E)


def check_judges(encoder: Encoder, filters: Sequence[Any]) -> None:
    """The judge is never what was optimised: raises ConfigError where no filter looks otherwise than by this encoder.

    The one rule of every guard that steers in an encoder's space.

    Args:
        encoder: the space of the objective; it must be differentiable.
        filters: those that verify a steered picture. One whose candidates the same encoder nominates sees by it as well.
    """
    if not encoder.differentiable:
        raise ConfigError(f"no gradient passes the encoder {encoder.name!r}; steer by a differentiable one")
    if all(_seen_by(one) == encoder.fingerprint for one in filters):
        raise ConfigError(
            f"every filter sees by {encoder.name!r}, in whose space the guard steers: a picture could fool it without "
            "changing; add a filter of another encoder or of pixels, or steer by another encoder"
        )


def _seen_by(one: Any) -> str | None:
    """The fingerprint of the encoder that a filter depends on, if it has one."""
    encoder = getattr(one, "encoder", None) or getattr(getattr(one, "gallery", None), "encoder", None)
    return getattr(encoder, "fingerprint", None)
