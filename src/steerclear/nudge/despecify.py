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
MOST_PARTS = (
    16  # a longer prompt is weighed in groups of neighbouring words, so that the search stays bounded
)
BATCH = 8  # prompts looked at together


@dataclass(frozen=True)
class Despecified:
    """prompt: the words that were kept; dropped: the others, most telling first; preview: its first prediction (1, …)."""

    prompt: str
    dropped: tuple[str, ...]
    preview: Tensor


def despecify(task: SteerTask) -> Despecified:
    """Drop as few words as take the first prediction away from the unwanted latents. Found once per set of these.

    Costs about two evaluations per word and at most 2 · MOST_PARTS + 1, without guidance, on the task's own noise.
    """
    key = f"despecified:{len(task.unwanted)}"
    if key not in task.memory:
        task.memory[key] = _search(task)
    return task.memory[key]  # type: ignore[no-any-return]


def _search(task: SteerTask) -> Despecified:
    parts = _parts(task.prompt)
    without = [" ".join(parts[:i] + parts[i + 1 :]) for i in range(len(parts))]
    likeness, _ = _first_look(task, [task.prompt, "", *without])
    full, blank, single = float(likeness[0]), float(likeness[1]), likeness[2:]
    order = [int(i) for i in single.argsort()]  # the part whose loss hurts the copy most comes first
    shorter = [
        " ".join(p for i, p in enumerate(parts) if i not in order[:k]) for k in range(1, len(parts))
    ] or [""]
    likeness, previews = _first_look(task, shorter)
    limit = blank + ENOUGH * max(0.0, full - blank)
    kept = next((k for k, value in enumerate(likeness) if float(value) <= limit), int(likeness.argmin()))
    dropped = tuple(parts[i] for i in order[: kept + 1])
    return Despecified(shorter[kept], dropped, previews[kept : kept + 1])


def _parts(prompt: str) -> list[str]:
    """The prompt's words, or at most MOST_PARTS groups of neighbouring ones."""
    words = prompt.split()
    size = -(-len(words) // MOST_PARTS)
    return [" ".join(words[i : i + size]) for i in range(0, len(words), size)]


def _first_look(task: SteerTask, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Likeness (N,) of each prompt's first prediction to the nearest unwanted latent, and the predictions (N, …)."""
    seen = torch.cat([_predictions(task, prompts[i : i + BATCH]) for i in range(0, len(prompts), BATCH)])
    return torch.stack([cosines(row[None], task.unwanted).max() for row in seen]), seen


def _predictions(task: SteerTask, prompts: list[str]) -> Tensor:
    unguided = {**task.kwargs, "guidance_scale": 1.0}
    conditions = [task.generator.encode(p, unguided) for p in prompts]
    batch: Condition = {"prompt_embeds": torch.cat([c["prompt_embeds"] for c in conditions])}

    def leave(step: Step) -> Tensor | None:
        raise LeaveEarly

    start = task.start.expand(len(prompts), *task.start.shape[1:]).contiguous()
    seen = task.generator.regenerate(batch, start, unguided, task.noise(task.seed), leave)
    assert seen.denoised is not None
    return seen.denoised
