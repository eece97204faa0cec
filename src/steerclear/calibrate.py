"""Thresholds with a meaning: chosen between the scores of known copies and those of ordinary generations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steerclear.errors import InputError
from steerclear.filters.base import Filter, inspect
from steerclear.nudge.objective import cosines
from steerclear.steering import Step, steer

EARLY_STEPS = 6  # steps at which an early verdict is considered
COPIES_CAUGHT = 0.99  # share of known copies that the final filters must flag
CLEAR_FLAGGED = 0.005  # share of ordinary generations that they may flag
STRICT_FLAGGED = (
    0.01  # share of ordinary generations that the strict thresholds for steered pictures would flag
)
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

    thresholds: where the copies' scores and the ordinary ones are apart, halfway between; where they overlap, a little
    above the highest ordinary score, as long as the filters together still flag COPIES_CAUGHT of the copies, else where
    CLEAR_FLAGGED of the ordinary ones are flagged. The pixel filter keeps the paper's distance of 0.1.
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
    thresholds = _thresholds(copies, clear, above_all=True)
    if flagged_share(copies, thresholds) < COPIES_CAUGHT:
        thresholds = _thresholds(copies, clear, above_all=False)
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


def _thresholds(copies: Scores, clear: Scores, *, above_all: bool) -> dict[str, float]:
    thresholds = {"pixel": 0.9}
    for name in ("nearest", "tiled"):
        low = float(copies.final[name].quantile(1 - COPIES_CAUGHT))
        high = float(clear.final[name].max())
        limit = high + 0.005 if above_all else float(clear.final[name].quantile(1 - CLEAR_FLAGGED)) + 0.001
        thresholds[name] = round((low + high) / 2 if low > high else limit, 4)
    return thresholds


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
