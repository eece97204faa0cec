"""What classifier-free guidance was made of at one step: the denoiser's predictions with and without the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steerclear.steering import Step

Halves = tuple[Tensor, Tensor]

MISFIT = 0.01  # of the prediction's length: more than rounding in half precision leaves


def halves(outputs: Sequence[object], sample: Tensor) -> Halves | None:
    """Both predictions of a step, (B, …) each, in the order in which they were made.

    outputs: of the denoiser in this step. None where it was not asked twice per image, with and without the prompt.
    """
    made = [one for one in outputs if isinstance(one, Tensor)]
    if not made or len(made) < len(outputs) or sum(map(len, made)) != 2 * len(sample):
        return None
    first, second = torch.cat(made).chunk(2)
    if first.ndim == sample.ndim:  # without a learned variance
        first, second = first[:, : sample.shape[1]], second[:, : sample.shape[1]]
    return first, second


def magnitude(both: Halves) -> Tensor:
    """Root mean square of their difference, (B,): how much more the prompt says than no prompt does."""
    first, second = both
    return (first - second).float().flatten(1).square().mean(1).sqrt()


def unguided(both: Halves | None, step: Step) -> Tensor | None:
    """The prediction without the prompt, as the scheduler would be given it, of the shape of `step.model_output`.

    Families differ in which half comes first, and some turn the sign: what fits the guided prediction u + g (c − u), g > 1,
    is taken. None where nothing does, as under rescaled guidance.
    """
    if both is None or both[0].shape != step.sample.shape:
        return None
    guided = step.model_output[:, : step.sample.shape[1]].float()
    best: tuple[float, Tensor] | None = None
    for sign in (1, -1):
        for u, c in (both, both[::-1]):
            without, told = sign * u.float(), sign * (c - u).float()
            scale = ((guided - without) * told).sum() / told.square().sum().clamp(min=1e-12)
            misfit = float((guided - without - scale * told).norm() / guided.norm().clamp(min=1e-12))
            if float(scale) > 1 and misfit < MISFIT and (best is None or misfit < best[0]):
                best = misfit, without
    if best is None:
        return None
    bare = best[1].to(step.model_output)
    variance = step.model_output[:, step.sample.shape[1] :]
    return torch.cat([bare, variance], dim=1) if variance.shape[1] else bare
