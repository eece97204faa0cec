"""Thresholds with a meaning: chosen between the scores of known copies and those of ordinary generations."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.conformal import CONFIDENCE, Bounded, auc, bounded_threshold, upper_rate
from steerclear.errors import InputError
from steerclear.filters.base import Filter, inspect
from steerclear.pixels import cosines, to_image
from steerclear.steering import Step, steer

EARLY_STEPS = 6  # steps at which an early verdict is considered
COPIES_CAUGHT = 0.99  # share of known copies that the final filters must flag
CLEAR_FLAGGED = 0.005  # share of ordinary generations that they may flag
# share of ordinary generations that the strict thresholds for steered pictures would flag
STRICT_FLAGGED = 0.03
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
    distance of 0.1.

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


def thresholds_at_rate(
    clean: Mapping[str, Sequence[float]], copies: Mapping[str, Sequence[float]], fpr: float
) -> tuple[dict[str, Any], dict[str, Bounded]]:
    """Choose each filter's threshold at a false-positive rate, by `bounded_threshold`.

    Strict thresholds, for steered pictures, are where STRICT_FLAGGED of the clean pictures would be flagged.

    Args:
        clean: filter name → scores of pictures that must not be flagged; the same pictures in the same order
            for every filter.
        copies: the same of pictures that should be flagged.
        fpr: the highest false-positive rate, in (0, 1).

    Returns:
        A library's calibration (`thresholds`, `strict`, `evidence`), and filter name → bound.

    Raises:
        InputError: for no scores, or scores that are not finite.
        ConfigError: for a rate outside (0, 1).
    """
    bounds = {name: bounded_threshold(scores, fpr) for name, scores in clean.items()}
    thresholds = {name: bound.threshold for name, bound in bounds.items()}
    strict = {
        name: min(thresholds[name], float(torch.tensor(scores).quantile(1 - STRICT_FLAGGED)))
        for name, scores in clean.items()
    }
    by_filter = {
        name: {
            **asdict(bound),
            "copies_flagged": _share_flagged([[score >= bound.threshold] for score in copies[name]]),
            "auc": round(auc(copies[name], clean[name]), 4),
            "curve": _curve(clean[name], copies[name]),
        }
        for name, bound in bounds.items()
    }
    flagged_clean, flagged_copies = (
        [
            [score >= thresholds[name] for name, score in zip(scores, picture_scores, strict=True)]
            for picture_scores in zip(*scores.values(), strict=True)
        ]
        for scores in (clean, copies)
    )
    evidence = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "fpr": fpr,
        "confidence": CONFIDENCE,
        "clean": len(flagged_clean),
        "copies": len(flagged_copies),
        "clear_flagged": _share_flagged(flagged_clean),
        "copies_flagged": _share_flagged(flagged_copies),
        "clear_upper": upper_rate(sum(map(any, flagged_clean)), len(flagged_clean)),
        "by_filter": by_filter,
    }
    return {"thresholds": thresholds, "strict": strict, "evidence": evidence}, bounds


def altered_copies(pictures: Tensor) -> list[Image.Image]:
    """Copies as they are met in practice, four of each picture.

    They are: JPEG of quality 40, a crop of 80 % scaled up again, brighter by a quarter, and half the size and
    back with noise of standard deviation 0.03.

    Args:
        pictures: (N, 3, H, W) in [0, 1].

    Returns:
        4 N pictures, those of the first one first.
    """
    copies: list[Image.Image] = []
    generator = torch.Generator().manual_seed(0)
    for pixels in pictures:
        height, width = pixels.shape[-2:]
        picture = to_image(pixels)
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=40)
        left, top = width // 10, height // 10
        crop = picture.crop((left, top, width - left, height - top))
        small = torch.nn.functional.interpolate(pixels[None], scale_factor=0.5, mode="area")
        blurred = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")[0]
        noise = 0.03 * torch.randn(blurred.shape, generator=generator)
        copies += [
            Image.open(jpeg).convert("RGB"),
            crop.resize((width, height), Image.Resampling.BICUBIC),
            to_image((pixels * 1.25).clamp(0, 1)),
            to_image((blurred + noise).clamp(0, 1)),
        ]
    return copies


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


def _share_flagged(flags: Sequence[Sequence[bool]]) -> float:
    """Share of the pictures that any filter flags. flags: for each picture, each filter's answer."""
    return round(sum(map(any, flags)) / len(flags), 4) if flags else 0.0


def _curve(clean: Sequence[float], copies: Sequence[float], points: int = 21) -> list[dict[str, float]]:
    """What share of each is flagged, over thresholds from the lowest score to the highest."""
    low, high = min(*clean, *copies), max(*clean, *copies)
    thresholds = [low + (high - low) * i / (points - 1) for i in range(points)]
    return [
        {
            "threshold": round(threshold, 4),
            "clean": _share_flagged([[score >= threshold] for score in clean]),
            "copies": _share_flagged([[score >= threshold] for score in copies]),
        }
        for threshold in thresholds
    ]


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
            threshold = float(clear.final[name].quantile(1 - CLEAR_FLAGGED)) + 0.001
        thresholds[name] = round(threshold, 4)
    return thresholds


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
