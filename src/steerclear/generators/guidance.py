"""Both halves of classifier-free guidance at one step: the predictions with and without the prompt."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steerclear.steering import Step

GuidancePair = tuple[Tensor, Tensor]
"""Both predictions of a step, (B, …) each, in the order in which the denoiser made them."""

MISFIT = 0.01  # share of the prediction's length; half precision's rounding stays below it


def guidance_pair(outputs: Sequence[object], sample: Tensor) -> GuidancePair | None:
    """Both predictions of a step, without a learned variance.

    Args:
        outputs: everything that the denoiser returned in this step.
        sample: (B, …) the step's noisy latent.

    Returns:
        The pair; None where the denoiser did not run exactly twice per image.
    """
    tensors = [output for output in outputs if isinstance(output, Tensor)]
    if not tensors or len(tensors) < len(outputs) or sum(map(len, tensors)) != 2 * len(sample):
        return None
    first, second = torch.cat(tensors).chunk(2)
    if first.ndim == sample.ndim:  # cut off a learned variance
        first, second = first[:, : sample.shape[1]], second[:, : sample.shape[1]]
    return first, second


def magnitude(pair: GuidancePair) -> Tensor:
    """Root mean square of ε_c − ε_u, (B,): how much the prompt changes the prediction (Wen et al., §4)."""
    first, second = pair
    return (first - second).float().flatten(1).square().mean(1).sqrt()


def unguided(pair: GuidancePair | None, step: Step) -> Tensor | None:
    """The prediction without the prompt, in the form in which the scheduler gets its model output.

    Families differ in which half comes first, and some turn the sign. The half is chosen for which the step's
    guided prediction is u + g (c − u) with g > 1.

    Args:
        pair: both predictions, None where there were not two.
        step: the step in which they were made.

    Returns:
        A tensor of the shape of `step.model_output`; None where neither half fits, as under rescaled
        guidance.
    """
    if pair is None or pair[0].shape != step.sample.shape:
        return None
    guided = step.model_output[:, : step.sample.shape[1]].float()
    best: tuple[float, Tensor] | None = None
    for sign in (1, -1):
        for u, c in (pair, pair[::-1]):
            unconditional, difference = sign * u.float(), sign * (c - u).float()
            scale = ((guided - unconditional) * difference).sum() / difference.square().sum().clamp(min=1e-12)
            misfit = float(
                (guided - unconditional - scale * difference).norm() / guided.norm().clamp(min=1e-12)
            )
            if float(scale) > 1 and misfit < MISFIT and (best is None or misfit < best[0]):
                best = misfit, unconditional
    if best is None:
        return None
    prediction = best[1].to(step.model_output)
    variance = step.model_output[:, step.sample.shape[1] :]
    return torch.cat([prediction, variance], dim=1) if variance.shape[1] else prediction
