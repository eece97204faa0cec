"""Finding what to prefer, without labels: the prompt less the words that carry the copy.

A memorized picture shows in the very first prediction, so one evaluation per shortened prompt tells which words
bring it: those whose removal takes `denoised` away from the protected latent. What is left of the prompt is the
concept without its memorized particulars, and both its embedding and its first prediction serve as D.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from steerclear.generators import Condition, LeaveEarly
from steerclear.nudge.base import SteerTask
from steerclear.nudge.objective import cosines
from steerclear.steering import Step

ENOUGH = 0.35  # share of the way from the blank prompt's likeness to the full prompt's at which a copy counts as gone


@dataclass(frozen=True)
class Despecified:
    """prompt: the words that were kept; dropped: the others, most telling first; preview: its first prediction (1, …)."""

    prompt: str
    dropped: tuple[str, ...]
    preview: Tensor


def despecify(task: SteerTask) -> Despecified:
    """Drop as few words as take the first prediction away from the unwanted latents. Found once per task.

    Costs about two evaluations per word, without guidance, all on the task's own noise.
    """
    if "despecified" not in task.memory:
        task.memory["despecified"] = _search(task)
    return task.memory["despecified"]  # type: ignore[no-any-return]


def _search(task: SteerTask) -> Despecified:
    words = task.prompt.split()
    without = [" ".join(words[:i] + words[i + 1 :]) for i in range(len(words))]
    likeness, _ = _first_look(task, [task.prompt, "", *without])
    full, blank, single = float(likeness[0]), float(likeness[1]), likeness[2:]
    order = [int(i) for i in single.argsort()]  # the word whose loss hurts the copy most comes first
    shorter = [
        " ".join(w for i, w in enumerate(words) if i not in order[:k]) for k in range(1, len(words))
    ] or [""]
    likeness, previews = _first_look(task, shorter)
    limit = blank + ENOUGH * max(0.0, full - blank)
    kept = next((k for k, value in enumerate(likeness) if float(value) <= limit), int(likeness.argmin()))
    dropped = tuple(words[i] for i in order[: kept + 1])
    return Despecified(shorter[kept], dropped, previews[kept : kept + 1])


def _first_look(task: SteerTask, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Likeness (N,) of each prompt's first prediction to the nearest unwanted latent, and the predictions (N, …)."""
    unguided = {**task.kwargs, "guidance_scale": 1.0}
    conditions = [task.generator.encode(p, unguided) for p in prompts]
    batch: Condition = {"prompt_embeds": torch.cat([c["prompt_embeds"] for c in conditions])}

    def leave(step: Step) -> Tensor | None:
        raise LeaveEarly

    start = task.start.expand(len(prompts), *task.start.shape[1:]).contiguous()
    seen = task.generator.regenerate(batch, start, unguided, task.noise(task.seed), leave)
    task.nfe += seen.nfe * len(prompts)
    assert seen.denoised is not None
    likeness = [cosines(row[None], task.unwanted).max() for row in seen.denoised]
    return torch.stack(likeness), seen.denoised
