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
STRICT_FLAGGED = (
    0.03  # share of ordinary generations that the strict thresholds for steered pictures would flag
)
# share of known copies that each filter must flag by itself, however near to them an ordinary picture comes
ALONE = 0.95
EARLY_CAUGHT = 0.95  # share of known copies that an early verdict should catch to be worth its step


@dataclass(frozen=True)
class Scores:
    """Every filter's score on a set of plain generations, and the early likeness at the first steps.

    final: filter name → (n,) scores; early: (n, EARLY_STEPS) cosines to the nearest protected latent.
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
    """Generate plainly, one image per prompt and seed, and score each. latents: (N, …) of the protected items."""
    final: dict[str, list[float]] = {f.name: [] for f in filters}
    early: list[Tensor] = []
    for i in range(0, len(prompts), batch):
        generators = [torch.Generator().manual_seed(s) for s in seeds[i : i + batch]]
        seen: list[Tensor] = []

        def look(step: Step, seen: list[Tensor] = seen) -> None:
            if step.index < EARLY_STEPS:
                seen.append(torch.stack([cosines(row[None], latents).max() for row in step.denoised]))

        with steer(pipe, look):
            images = pipe(
                list(prompts[i : i + batch]),
                generator=generators,
                num_inference_steps=steps,
                guidance_scale=guidance,
            ).images
        early.append(torch.stack(seen, dim=1))
        for row in inspect(filters, images):
            for found in row:
                final[found.filter].append(found.score)
        on_batch(len(images))
    return Scores({name: torch.tensor(values) for name, values in final.items()}, torch.cat(early))


def choose(copies: Scores, clear: Scores) -> dict[str, Any]:
    """Thresholds for every filter and for the early verdict, with the evidence that they rest on.

    thresholds: where the copies' scores and the ordinary ones are apart, as low as the ordinary ones allow (see `_apart`); where
    they overlap, a little above the highest ordinary score. All that as long as the filters together still flag COPIES_CAUGHT of
    the copies, else halfway, or where CLEAR_FLAGGED of the ordinary ones are flagged. The pixel filter keeps the paper's
    distance of 0.1.
    strict: what a steered picture must stay below, where STRICT_FLAGGED of the ordinary pictures would be flagged: it comes
    from a request for a copy, so that a likeness which is chance elsewhere is suspect here.
    Raises InputError when a score is not finite.
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
        name: min(value, round(float(clear.final[name].quantile(1 - STRICT_FLAGGED)), 4))
        for name, value in thresholds.items()
    }
    evidence = {
        "copies": len(copies.early),
        "clear": len(clear.early),
        "copies_flagged": flagged_share(copies, thresholds),
        "clear_flagged": flagged_share(clear, thresholds),
        "by_filter": {
            name: {
                "copies_least": round(float(copies.final[name].min()), 4), "copies_median": round(float(copies.final[name].median()), 4),
                "clear_median": round(float(clear.final[name].median()), 4), "clear_most": round(float(clear.final[name].max()), 4),
            }
            for name in copies.final
        },
    }  # fmt: skip
    early, curve = _choose_early(copies.early, clear.early)
    return {
        "thresholds": thresholds,
        "strict": strict,
        "early": early,
        "evidence": {**evidence, "early_curve": curve},
    }


def at_rate(
    clean: Mapping[str, Sequence[float]], copies: Mapping[str, Sequence[float]], fpr: float
) -> tuple[dict[str, Any], dict[str, Bounded]]:
    """Each filter's threshold at a false-positive rate, as a library's calibration, and each bound alone.

    clean, copies: filter name → scores, of the same images in the same order. strict thresholds, for steered pictures,
    are where STRICT_FLAGGED of the clean images would be flagged. Errors as in `bounded_threshold`.
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
            "copies_flagged": _share([[s >= bound.threshold] for s in copies[name]]),
            "auc": round(auc(copies[name], clean[name]), 4),
            "curve": _curve(clean[name], copies[name]),
        }
        for name, bound in bounds.items()
    }
    flagged_clean = [
        [s >= thresholds[name] for name, s in zip(clean, row, strict=True)]
        for row in zip(*clean.values(), strict=True)
    ]
    flagged_copies = [
        [s >= thresholds[name] for name, s in zip(copies, row, strict=True)]
        for row in zip(*copies.values(), strict=True)
    ]
    evidence = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"), "fpr": fpr, "confidence": CONFIDENCE,
        "clean": len(flagged_clean), "copies": len(flagged_copies),
        "clear_flagged": _share(flagged_clean), "copies_flagged": _share(flagged_copies),
        "clear_upper": upper_rate(sum(map(any, flagged_clean)), len(flagged_clean)), "by_filter": by_filter,
    }  # fmt: skip
    return {"thresholds": thresholds, "strict": strict, "evidence": evidence}, bounds


def altered(pictures: Tensor) -> list[Image.Image]:
    """Copies as they are met in practice, four of each of pictures (N, 3, H, W) in [0, 1]: JPEG of quality 40, a crop of
    80 %, brighter by a quarter, and half the size with noise."""
    out: list[Image.Image] = []
    draw = torch.Generator().manual_seed(0)
    for pixels in pictures:
        height, width = pixels.shape[-2:]
        picture = to_image(pixels)
        jpeg = io.BytesIO()
        picture.save(jpeg, "JPEG", quality=40)
        out.append(Image.open(jpeg).convert("RGB"))
        left, top = width // 10, height // 10
        out.append(
            picture.crop((left, top, width - left, height - top)).resize(
                (width, height), Image.Resampling.BICUBIC
            )
        )
        out.append(to_image((pixels * 1.25).clamp(0, 1)))
        small = torch.nn.functional.interpolate(pixels[None], scale_factor=0.5, mode="area")
        blurred = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")[0]
        out.append(to_image((blurred + 0.03 * torch.randn(blurred.shape, generator=draw)).clamp(0, 1)))
    return out


def _share(rows: Sequence[Sequence[bool]]) -> float:
    return round(sum(map(any, rows)) / len(rows), 4) if rows else 0.0


def _curve(clean: Sequence[float], copies: Sequence[float], points: int = 21) -> list[dict[str, float]]:
    """What share of each is flagged, over thresholds from the lowest score to the highest."""
    low, high = min(*clean, *copies), max(*clean, *copies)
    steps = [low + (high - low) * i / (points - 1) for i in range(points)]
    return [
        {
            "threshold": round(t, 4), "clean": _share([[s >= t] for s in clean]), "copies": _share([[s >= t] for s in copies]),
        }
        for t in steps
    ]  # fmt: skip


def _thresholds(copies: Scores, clear: Scores, *, close: bool, above_all: bool) -> dict[str, float]:
    thresholds = {"pixel": 0.9}
    for name in ("nearest", "tiled"):
        low = float(copies.final[name].quantile(1 - COPIES_CAUGHT))
        high = float(clear.final[name].max())
        if low > high:
            chosen = _apart(copies.final[name], clear.final[name]) if close else (low + high) / 2
        elif above_all:
            chosen = high + 0.005
        else:
            chosen = float(clear.final[name].quantile(1 - CLEAR_FLAGGED)) + 0.001
        thresholds[name] = round(chosen, 4)
    return thresholds


def _apart(copies: Tensor, clear: Tensor) -> float:
    """Between two groups of scores that do not overlap: as low as ordinary pictures allow, since a copy may be a soft one.

    That is as far above the highest ordinary score as this lies above 99 % of them, which is how far the next rare one may lie
    above it; but never so high that fewer than ALONE of the copies reach it.
    """
    high = float(clear.max())
    return min(high + (high - float(clear.quantile(0.99))), float(copies.quantile(1 - ALONE)))


def flagged_share(scores: Scores, thresholds: dict[str, float]) -> float:
    """Share of images that any filter flags."""
    hits = torch.stack([values >= thresholds[name] for name, values in scores.final.items()]).any(0)
    return round(float(hits.float().mean()), 4)


def early_threshold(copies: Tensor, clear: Tensor) -> float:
    """A third of the way from the highest ordinary likeness to the copies' median: no false alarm, with room to spare."""
    most = float(clear.max())
    return most + max(0.02, (float(copies.median()) - most) / 3)


def _choose_early(copies: Tensor, clear: Tensor) -> tuple[dict[str, Any] | None, list[dict[str, float]]]:
    curve = []
    for step in range(copies.shape[1]):
        threshold = early_threshold(copies[:, step], clear[:, step])
        caught = float((copies[:, step] >= threshold).float().mean())
        curve.append({
            "step": step, "threshold": round(threshold, 4), "copies_caught": round(caught, 4),
            "copies_median": round(float(copies[:, step].median()), 4), "clear_most": round(float(clear[:, step].max()), 4),
        })  # fmt: skip
    good = next((c for c in curve if c["copies_caught"] >= EARLY_CAUGHT), None)
    best = good or max(curve, key=lambda c: c["copies_caught"])
    if best["copies_caught"] < 0.5:
        return None, curve
    return {"threshold": best["threshold"], "step": int(best["step"])}, curve
