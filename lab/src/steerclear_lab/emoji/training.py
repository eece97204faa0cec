"""The loop that every stage of the recipe runs in: seeded, checkpointed, resumable, with bounded memory."""

from __future__ import annotations

import copy
import ctypes
import gc
import itertools
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

REPORT_EVERY = 20  # steps between two looks at the loss: each look waits for the device


def device() -> torch.device:
    """Where training runs: the first CUDA device, or the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def graphed(model: nn.Module, *inputs: Tensor) -> nn.Module:
    """On CUDA the model as one graph for inputs of these shapes, forward and backward: a small network is otherwise
    held up by the launching of its kernels. Elsewhere the model itself.

    The model must return one tensor. Its parameters stay the same objects.
    """
    if device().type != "cuda":
        return model
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        return torch.cuda.make_graphed_callables(model, inputs, allow_unused_input=True)  # type: ignore[return-value]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: optimiser steps, peak learning rate (linear warm-up, cosine to zero), EMA decay."""

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 1.0

    def factor(self, step: int) -> float:
        """The share of the peak learning rate at a step."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@dataclass
class Run:
    """One stage's training run in a folder: `fit` goes on from the last checkpoint, or returns at once when done."""

    name: str
    folder: Path
    model: nn.Module
    schedule: Schedule
    seed: int = 0
    checkpoint_seconds: float = 120.0
    ema: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model.to(device())
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)

    @property
    def checkpoint(self) -> Path:
        return self.folder / f"{self.name}.pt"

    def fit(
        self,
        loss_at: Callable[[int, torch.Generator], tuple[Tensor, dict[str, Tensor]]],
        rate_at: Callable[[int], float] = lambda step: 1.0,
    ) -> nn.Module:
        """Train to the end of the schedule and return the averaged model.

        loss_at: (step, generator) → (scalar loss, figures for the log); rate_at: a further factor of the learning rate.
        Every random draw comes from that generator, which is seeded by the step, so an interrupted run draws what an
        uninterrupted one draws. On CUDA the loss is computed under bfloat16 autocast.
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            parameters, lr=self.schedule.rate, weight_decay=self.schedule.weight_decay, betas=(0.9, 0.99)
        )
        start = self._resume(optimiser)
        saved = time.monotonic()
        means: dict[str, Tensor] = {}
        on_cuda = device().type == "cuda"
        with _progress() as progress:
            task = progress.add_task(self.name, total=self.schedule.steps, completed=start, figures="")
            for step in range(start, self.schedule.steps):
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
                for group in optimiser.param_groups:
                    group["lr"] = self.schedule.rate * self.schedule.factor(step) * rate_at(step)
                with torch.autocast("cuda", torch.bfloat16, enabled=on_cuda):
                    loss, figures = loss_at(step, generator)
                looking = step % REPORT_EVERY == 0 or not on_cuda
                if looking and not torch.isfinite(loss):
                    raise FloatingPointError(
                        f"{self.name}: the loss is {loss.item()} at step {step}; lower the learning rate"
                    )
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
                optimiser.step()
                self._average(step)
                for key, value in figures.items():
                    new = value.detach()
                    means[key] = new if key not in means else means[key] * 0.98 + new * 0.02
                progress.update(task, advance=1)
                if looking:
                    progress.update(task, figures=" ".join(f"{k} {float(v):.4f}" for k, v in means.items()))
                if (step + 1) % 200 == 0:
                    self._log(step + 1, {key: float(value) for key, value in means.items()})
                    release_memory()
                if time.monotonic() - saved > self.checkpoint_seconds or step + 1 == self.schedule.steps:
                    self._save(step + 1, optimiser)
                    saved = time.monotonic()
        return self.ema

    def _average(self, step: int) -> None:
        decay = min(self.schedule.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            averaged: list[Tensor] = list(self.ema.parameters())
            current: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(averaged, current, 1 - decay)
            for mean, value in zip(self.ema.buffers(), self.model.buffers(), strict=True):
                mean.copy_(value)

    def _resume(self, optimiser: torch.optim.Optimizer) -> int:
        if not self.checkpoint.exists():
            return 0
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])

    def _save(self, step: int, optimiser: torch.optim.Optimizer) -> None:
        """Write beside, then rename: a kill at any moment leaves the last whole checkpoint."""
        partial = self.checkpoint.with_suffix(".partial")
        state = {
            "step": step,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        torch.save(state, partial)
        os.replace(partial, self.checkpoint)

    def _log(self, step: int, figures: dict[str, Any]) -> None:
        with (self.folder / f"{self.name}.jsonl").open("a") as file:
            file.write(
                json.dumps(
                    {"step": step, "time": round(time.time()), **{k: round(v, 5) for k, v in figures.items()}}
                )
                + "\n"
            )


def minutes(log: Path) -> float:
    """How long a stage trained, by its log. Of a pause, since the run was stopped, no more than three
    usual stretches between two lines are counted."""
    times: list[float] = [json.loads(line)["time"] for line in log.read_text().splitlines()]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    if not gaps:
        return 0.0
    usual = statistics.median(gaps)
    # the log begins with the first stretch's end
    return round((usual + sum(min(gap, 3 * usual) for gap in gaps)) / 60, 1)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )  # fmt: skip


def release_memory() -> None:
    """Give freed pages back: some allocators keep them, and a long run on a small machine then dies."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
