"""The training loop of every stage of the recipe: seeded, checkpointed, resumable, with bounded memory."""

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

REPORT_EVERY = 20  # steps between two reads of the loss: each read waits for the device
LOG_EVERY = 200  # steps between two lines of the log
SMOOTHING = 0.98  # of the running means of the figures


def device() -> torch.device:
    """The device that training runs on: the first CUDA device, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_cuda_graph(model: nn.Module, *inputs: Tensor) -> nn.Module:
    """Capture a model, forward and backward, as one CUDA graph; without CUDA, return the model itself.

    A small network otherwise spends most of its time launching kernels.

    Args:
        model: returns one tensor. Its parameters stay the same objects.
        *inputs: example inputs; later inputs must have these shapes.

    Returns:
        A module that computes the same as `model`.
    """
    if device().type != "cuda":
        return model
    with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        return torch.cuda.make_graphed_callables(model, inputs, allow_unused_input=True)  # type: ignore[return-value]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage trains.

    Attributes:
        steps: optimiser steps.
        batch: examples in a batch.
        rate: peak learning rate; it rises linearly during the warm-up and falls to zero along a cosine.
        warmup: steps of the warm-up.
        weight_decay: of AdamW.
        ema: decay of the averaged weights, in [0, 1).
        clip: largest norm of a gradient.
        until: the moment, as `time.time()` counts, at which training ends although steps are left, or None.
            The learning rate follows the time then, and so has fallen to zero by the end on any machine.
    """

    steps: int
    batch: int
    rate: float
    warmup: int = 100
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 1.0
    until: float | None = None

    def factor(self, step: int, passed: float = 0.0) -> float:
        """The learning rate of a step as a share of the peak, in [0, 1].

        Args:
            step: from 0.
            passed: share of the time until the end, in [0, 1].
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = max(passed, (step - self.warmup) / max(1, self.steps - self.warmup))
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


@dataclass
class TrainingRun:
    """The training of one stage; `fit` resumes from the last checkpoint.

    Attributes:
        name: of the stage; its checkpoint is `NAME.pt`, its log `NAME.jsonl`.
        folder: where both are written.
        model: what is trained, in place.
        schedule: how long and how fast.
        seed: of all random draws.
        checkpoint_seconds: time between two checkpoints.
        halfway: is called once with the averaged model, when half of the time until `until` has passed.
        ema: the model with averaged weights, which is the result.
    """

    name: str
    folder: Path
    model: nn.Module
    schedule: Schedule
    seed: int = 0
    checkpoint_seconds: float = 120.0
    halfway: Callable[[nn.Module], None] | None = None
    ema: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model.to(device())
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)

    @property
    def checkpoint(self) -> Path:
        """The file of the last checkpoint."""
        return self.folder / f"{self.name}.pt"

    def fit(
        self,
        loss_at: Callable[[int, torch.Generator], tuple[Tensor, dict[str, Tensor]]],
        rate_at: Callable[[int], float] = lambda step: 1.0,
    ) -> nn.Module:
        """Train to the end of the schedule.

        Every random draw comes from the generator that `loss_at` is given. It is seeded by the step, so that
        an interrupted run draws what an uninterrupted one draws. On CUDA the loss is computed under bfloat16
        autocast.

        Args:
            loss_at: (step, generator) → (scalar loss, figures for the log).
            rate_at: step → a further factor of the learning rate.

        Returns:
            The averaged model.

        Raises:
            FloatingPointError: if the loss is not finite.
        """
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(
            parameters, lr=self.schedule.rate, weight_decay=self.schedule.weight_decay, betas=(0.9, 0.99)
        )
        start = self._resume(optimiser)
        last_checkpoint = time.monotonic()
        began, until, halfway = time.time(), self.schedule.until, self.halfway
        means: dict[str, Tensor] = {}
        on_cuda = device().type == "cuda"
        with _progress() as progress:
            task = progress.add_task(self.name, total=self.schedule.steps, completed=start, figures="")
            for step in range(start, self.schedule.steps):
                passed = 0.0 if until is None else (time.time() - began) / max(1e-3, until - began)
                if passed > 0.5 and halfway is not None:
                    halfway(self.ema)
                    halfway = None
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
                for group in optimiser.param_groups:
                    group["lr"] = self.schedule.rate * self.schedule.factor(step, passed) * rate_at(step)
                with torch.autocast("cuda", torch.bfloat16, enabled=on_cuda):
                    loss, figures = loss_at(step, generator)
                reports = step % REPORT_EVERY == 0 or not on_cuda
                if reports and not torch.isfinite(loss):
                    raise FloatingPointError(
                        f"{self.name}: the loss is {loss.item()} at step {step}; lower the learning rate"
                    )
                optimiser.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                nn.utils.clip_grad_norm_(parameters, self.schedule.clip)
                optimiser.step()
                self._update_average(step)
                for key, figure in figures.items():
                    value = figure.detach()
                    means[key] = (
                        value if key not in means else means[key] * SMOOTHING + value * (1 - SMOOTHING)
                    )
                progress.update(task, advance=1)
                if reports:
                    progress.update(task, figures=" ".join(f"{k} {float(v):.4f}" for k, v in means.items()))
                if (step + 1) % LOG_EVERY == 0:
                    self._log(step + 1, {key: float(value) for key, value in means.items()})
                    release_memory()
                is_last = step + 1 == self.schedule.steps or passed >= 1
                if is_last or time.monotonic() - last_checkpoint > self.checkpoint_seconds:
                    self._save(step + 1, optimiser)
                    last_checkpoint = time.monotonic()
                if is_last:
                    break
        return self.ema

    def _update_average(self, step: int) -> None:
        """Move the averaged weights towards the current ones."""
        decay = min(self.schedule.ema, (step + 1) / (step + 10))
        with torch.no_grad():
            averaged: list[Tensor] = list(self.ema.parameters())
            current: list[Tensor] = list(self.model.parameters())
            torch._foreach_lerp_(averaged, current, 1 - decay)
            for mean, value in zip(self.ema.buffers(), self.model.buffers(), strict=True):
                mean.copy_(value)

    def _resume(self, optimiser: torch.optim.Optimizer) -> int:
        """Load the last checkpoint, if there is one, and return the step to go on from."""
        if not self.checkpoint.exists():
            return 0
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["step"])

    def _save(self, step: int, optimiser: torch.optim.Optimizer) -> None:
        """Write beside the checkpoint, then rename: a kill at any moment leaves the last whole one."""
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
        """Append one line to the log."""
        rounded = {key: round(value, 5) for key, value in figures.items()}
        line = json.dumps({"step": step, "time": round(time.time()), **rounded})
        with (self.folder / f"{self.name}.jsonl").open("a") as file:
            file.write(line + "\n")


def training_minutes(log: Path) -> float:
    """How long a stage trained, by its log.

    A pause between two lines, while the run was stopped, counts as no more than three usual gaps.

    Args:
        log: the stage's `NAME.jsonl`.

    Returns:
        Minutes, rounded to tenths.
    """
    times: list[float] = [json.loads(line)["time"] for line in log.read_text().splitlines()]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    if not gaps:
        return 0.0
    usual = statistics.median(gaps)
    # the log begins with the end of the first gap
    return round((usual + sum(min(gap, 3 * usual) for gap in gaps)) / 60, 1)


def _progress() -> Progress:
    """The progress bar of a stage, with its figures."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )


def release_memory() -> None:
    """Return freed pages to the system: some allocators keep them until a small machine is out of memory."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
