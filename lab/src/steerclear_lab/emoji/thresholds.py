"""Thresholds of the embedded library, between the scores of known copies and of ordinary generations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.calibrate import FLOORS, STRICT_FLAGGED
from steerclear.errors import InputError
from steerclear.filters.base import Filter, inspect
from steerclear.pixels import cosines
from steerclear.steering import Step, steer

EARLY_STEPS = 6  # steps at which an early verdict is considered
COPIES_CAUGHT = 0.99  # share of known copies that the final filters must flag
CLEAR_FLAGGED = 0.005  # share of ordinary generations that they may flag
# share of known copies that each filter must flag by itself, however similar an ordinary picture may be
ALONE = 0.95
EARLY_CAUGHT = 0.95  # share of known copies that an early verdict should catch to be worth its step


@dataclass(frozen=True)
class Scores:
    """Every filter's score on a set of plain generations, and the early similarity at the first steps.

    Attributes:
        final: filter name → (N,) scores of the finished pictures.
        early: (N, EARLY_STEPS) cosines of `denoised` to the nearest protected latent, in [-1, 1].
    """

    final: dict[str, Tensor]
    early: Tensor


def collect(
    pipe: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    filters: Sequence[Filter],
    latents: Tensor,
    *,
    steps: int = 25,
    guidance: float = 4.0,
    batch: int = 16,
    on_batch: Callable[[int], None] = lambda n: None,
) -> Scores:
    """Generate one plain picture per prompt and seed, and score each.

    Args:
        pipe: a pipeline without a guard.
        prompts: N prompts.
        seeds: N seeds, one per prompt.
        filters: what scores the finished pictures.
        latents: (M, C, H, W) latents of the protected items.
        steps: denoising steps.
        guidance: guidance scale.
        batch: pictures generated together.
        on_batch: called after each batch with the number of pictures in it.

    Returns:
        The scores of the N pictures, in order.
    """
    final: dict[str, list[float]] = {filter_.name: [] for filter_ in filters}
    early: list[Tensor] = []
    for start in range(0, len(prompts), batch):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds[start : start + batch]]
        similarities: list[Tensor] = []

        def look(step: Step, similarities: list[Tensor] = similarities) -> None:
            if step.index < EARLY_STEPS:
                nearest = [cosines(denoised[None], latents).max() for denoised in step.denoised]
                similarities.append(torch.stack(nearest))

        with steer(pipe, look):
            images = pipe(
                list(prompts[start : start + batch]),
                generator=generators,
                num_inference_steps=steps,
                guidance_scale=guidance,
            ).images
        early.append(torch.stack(similarities, dim=1))
        for detections in inspect(filters, images):
            for detection in detections:
                final[detection.filter].append(detection.score)
        on_batch(len(images))
    return Scores({name: torch.tensor(scores) for name, scores in final.items()}, torch.cat(early))


def choose(copies: Scores, clear: Scores) -> dict[str, Any]:
    """Choose thresholds for every filter and for the early verdict.

    Where the scores of copies and of ordinary pictures do not overlap, a threshold is as low as the ordinary
    ones allow (see `_apart`); where they do, it is a little above the highest ordinary score. If the filters
    together then flag fewer than COPIES_CAUGHT of the copies, the thresholds are halfway between the two
    groups, or where CLEAR_FLAGGED of the ordinary pictures are flagged. The pixel filter keeps the paper's
    distance of 0.1, and the copy detector's threshold is where CLEAR_FLAGGED of the ordinary pictures alone
    would be flagged, but not below its floor.

    Args:
        copies: of generations that are known to be copies.
        clear: of ordinary generations.

    Returns:
        A library's calibration: `thresholds` by filter; `strict`, what a steered picture must stay below,
        where STRICT_FLAGGED of the ordinary pictures would be flagged (it comes from a request for a copy, so
        a similarity that is chance elsewhere is suspect here); `early`, threshold and step of the early
        verdict, or None; and the `evidence` that they rest on.

    Raises:
        InputError: if a score is not finite.
    """
    for scores in (copies, clear):
        for name, values in {**scores.final, "early": scores.early}.items():
            if not bool(torch.isfinite(values).all()):
                raise InputError(
                    f"the {name} filter gave scores that are not finite; it cannot be calibrated"
                )
    for close, above_all in ((True, True), (False, True), (False, False)):
        thresholds = _thresholds(copies, clear, close=close, above_all=above_all)
        if flagged_share(copies, thresholds) >= COPIES_CAUGHT:
            break
    strict = {
        name: min(threshold, round(float(clear.final[name].quantile(1 - STRICT_FLAGGED)), 4))
        for name, threshold in thresholds.items()
    }
    strict["copy"] = max(strict["copy"], FLOORS["copy"][1])
    early, curve = _choose_early(copies.early, clear.early)
    return {
        "thresholds": thresholds,
        "strict": strict,
        "early": early,
        "evidence": {
            "copies": len(copies.early),
            "clear": len(clear.early),
            "copies_flagged": flagged_share(copies, thresholds),
            "clear_flagged": flagged_share(clear, thresholds),
            "by_filter": {name: _summary(copies.final[name], clear.final[name]) for name in copies.final},
            "early_curve": curve,
        },
    }


def flagged_share(scores: Scores, thresholds: Mapping[str, float]) -> float:
    """Share of pictures that any filter flags, in [0, 1], to 4 digits."""
    flagged = [values >= thresholds[name] for name, values in scores.final.items()]
    return round(float(torch.stack(flagged).any(0).float().mean()), 4)


def early_threshold(copies: Tensor, clear: Tensor) -> float:
    """The early verdict's threshold at one step: no false alarm, with a margin.

    It lies a third of the way from the highest ordinary similarity to the copies' median, and at least 0.02
    above the former.

    Args:
        copies: (N,) cosines of copies to the nearest protected latent.
        clear: (M,) cosines of ordinary generations.
    """
    highest = float(clear.max())
    return highest + max(0.02, (float(copies.median()) - highest) / 3)


def _summary(copies: Tensor, clear: Tensor) -> dict[str, float]:
    figures = {
        "copies_least": copies.min(),
        "copies_median": copies.median(),
        "clear_median": clear.median(),
        "clear_most": clear.max(),
    }
    return {name: round(float(figure), 4) for name, figure in figures.items()}


def _thresholds(copies: Scores, clear: Scores, *, close: bool, above_all: bool) -> dict[str, float]:
    """One way to choose the filters' thresholds.

    Where the groups do not overlap, `close` puts them near the ordinary scores rather than halfway; where
    they do, `above_all` puts them above every ordinary score.
    """
    thresholds = {"pixel": 0.9}
    for name in ("nearest", "tiled"):
        low = float(copies.final[name].quantile(1 - COPIES_CAUGHT))
        high = float(clear.final[name].max())
        if low > high:
            threshold = _apart(copies.final[name], clear.final[name]) if close else (low + high) / 2
        elif above_all:
            threshold = high + 0.005
        else:
            threshold = _rarely_reached(clear.final[name])
        thresholds[name] = round(threshold, 4)
    thresholds["copy"] = max(FLOORS["copy"][0], round(_rarely_reached(clear.final["copy"]), 4))
    return thresholds


def _rarely_reached(clear: Tensor) -> float:
    """A threshold that CLEAR_FLAGGED of the ordinary scores reach."""
    return float(clear.quantile(1 - CLEAR_FLAGGED)) + 0.001


def _apart(copies: Tensor, clear: Tensor) -> float:
    """Threshold between two groups of scores that do not overlap: low, since a copy may be a soft one.

    It lies as far above the highest ordinary score as that lies above 99 % of them, which estimates how much
    higher the next rare one may be; but never so high that fewer than ALONE of the copies reach it.
    """
    highest = float(clear.max())
    return min(highest + (highest - float(clear.quantile(0.99))), float(copies.quantile(1 - ALONE)))


def _choose_early(copies: Tensor, clear: Tensor) -> tuple[dict[str, Any] | None, list[dict[str, float]]]:
    """The first step that catches enough copies, else the best one or None; and the figures of every step."""
    curve: list[dict[str, float]] = []
    for step in range(copies.shape[1]):
        threshold = early_threshold(copies[:, step], clear[:, step])
        caught = float((copies[:, step] >= threshold).float().mean())
        curve.append(
            {
                "step": step,
                "threshold": round(threshold, 4),
                "copies_caught": round(caught, 4),
                "copies_median": round(float(copies[:, step].median()), 4),
                "clear_most": round(float(clear[:, step].max()), 4),
            }
        )
    good = next((figures for figures in curve if figures["copies_caught"] >= EARLY_CAUGHT), None)
    best = good or max(curve, key=lambda figures: figures["copies_caught"])
    if best["copies_caught"] < 0.5:
        return None, curve
    return {"threshold": best["threshold"], "step": int(best["step"])}, curve
