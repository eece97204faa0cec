"""The way of a request: generate, detect, nudge, verify, and hand out or withhold."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.errors import ConfigError, InputError
from steerclear.filters.base import Filter, flagged, inspect
from steerclear.filters.early import EarlyVerdict
from steerclear.generators import LeaveEarly, Pass, PipelineGenerator
from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.ladder import Budget, Ladder
from steerclear.protected import Protected
from steerclear.steering import Step, derive
from steerclear.types import Detection, GuardOutput, Outcome, Report

LONGEST_PROMPT = 4000  # characters; far beyond what any text encoder reads


@dataclass(frozen=True)
class _Row:
    """One requested image on its way."""

    prompt: str
    seed: int
    detections: tuple[Detection, ...]


class Guard:
    """Wraps a diffusers pipeline so that no flagged image is ever handed out.

    pipe: any supported pipeline, already on its device; its own safety checker must be None, since it blackens
    images and hides its scores. filters: what decides, at least one. protected: the library's items, from which
    the nudge pushes away. preferred: texts and PIL images that pull. ladder: strategies and budget.
    early: an optional early verdict, which may end a doomed pass. Thread-safe: callers queue.
    """

    def __init__(
        self,
        pipe: Any,
        filters: Sequence[Filter],
        *,
        protected: Protected | None = None,
        preferred: Sequence[str | Image.Image] = (),
        ladder: Ladder | None = None,
        early: EarlyVerdict | None = None,
    ) -> None:
        if not filters:
            raise ConfigError("a guard without filters would wave everything through; pass filters=[…]")
        if getattr(pipe, "safety_checker", None) is not None:
            raise ConfigError(
                "this pipeline's safety_checker blackens images; set pipe.safety_checker = None and pass a filter"
            )
        self.generator = PipelineGenerator(pipe)
        self.filters = tuple(filters)
        self.protected = protected
        self.preferred = tuple(preferred)
        self.ladder = ladder or Ladder()
        self.early = early
        self._queue = threading.RLock()

    @classmethod
    def default(cls, **options: Any) -> Guard:
        """The embedded model guarded by the embedded library. options: as `from_pretrained`."""
        from steerclear.loading import default_guard

        return default_guard(**options)

    @classmethod
    def from_pretrained(cls, model: str | Path, **options: Any) -> Guard:
        """A guard around a model folder or id. options: library, preferred, ladder, budget (see `steerclear.loading`)."""
        from steerclear.loading import load_guard

        return load_guard(model, **options)

    @property
    def pipe(self) -> Any:
        return self.generator.pipe

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        budget: Budget | None = None,
        **kwargs: Any,
    ) -> GuardOutput:
        """Generate and hand out only what passes.

        prompt, num_images_per_prompt, generator and all other keyword arguments go to the pipeline untouched.
        An image that no filter flags is bit-identical to the plain pipeline's. Raises InputError for an empty or
        overlong prompt or for a step count below 1.
        """
        prompts = _checked_prompts(prompt)
        _check_numbers(num_images_per_prompt, kwargs)
        with self._queue:
            began = time.monotonic()
            seeds = _seeds(generator, len(prompts) * num_images_per_prompt)
            plain = {**kwargs, "num_images_per_prompt": num_images_per_prompt, "generator": generator}
            first, early = self._first_pass(prompt if isinstance(prompt, str) else list(prompt), plain)
            steps = len(self.pipe.scheduler.timesteps)
            plain_nfe = first.nfe * steps / max(1, first.steps)
            found = self._detect(first, early)
            shared = (time.monotonic() - began) / len(found)
            rows = [
                _Row(prompts[i // num_images_per_prompt], seeds[i], detections)
                for i, detections in enumerate(found)
            ]
            images: list[Image.Image | None] = []
            reports = []
            for i, row in enumerate(rows):
                image, report = self._settle(i, row, first, plain_nfe, kwargs, budget)
                images.append(image)
                reports.append(replace(report, seconds=report.seconds + shared))
            return GuardOutput(images, reports)

    def check(self, images: Sequence[Image.Image]) -> list[tuple[Detection, ...]]:
        """The filters' findings on finished images, one tuple per image."""
        return inspect(self.filters, images)

    def _first_pass(self, prompt: str | list[str], plain: dict[str, Any]) -> tuple[Pass, list[Detection]]:
        """The plain pipeline, watched: left early only where every image in it is already flagged."""
        verdicts: list[Detection] = []
        steps = int(plain.get("num_inference_steps", 50))
        early = self.early

        def watch(step: Step) -> Tensor | None:
            if early is not None and step.index == early.step(steps):
                found = early.check(step.denoised)
                if all(d.flagged for d in found):
                    verdicts.extend(found)
                    raise LeaveEarly
            return None

        return self.generator.run(watch, prompt=prompt, **plain), verdicts

    def _detect(self, first: Pass, early: list[Detection]) -> list[tuple[Detection, ...]]:
        if not early:
            return inspect(self.filters, first.images)
        assert first.denoised is not None
        previews = self.protected.decode(first.denoised) if self.protected else []
        looked = inspect(self.filters, previews) or [()] * len(early)
        return [(verdict, *seen) for verdict, seen in zip(early, looked, strict=True)]

    def _settle(
        self, i: int, row: _Row, first: Pass, plain_nfe: float, kwargs: dict[str, Any], budget: Budget | None
    ) -> tuple[Image.Image | None, Report]:
        """Hand out, or climb the ladder for, one image of the first pass."""
        report = Report(
            row.prompt, row.seed, Outcome.CLEAR, row.detections, nfe=first.nfe, nfe_plain=plain_nfe
        )
        if not flagged(row.detections):
            return first.images[i], report
        began = time.monotonic()
        task = self._task(i, row, first, kwargs)
        ladder = self.ladder if budget is None else replace(self.ladder, budget=budget)

        def verify(candidate: Candidate) -> tuple[Detection, ...]:
            return inspect(self.filters, [candidate.image])[0]

        def learn(found: tuple[Detection, ...]) -> None:
            task.unwanted = self._unwanted(found, task.unwanted)

        image, attempts, reason = ladder.climb(task, plain_nfe, row.detections, verify, learn)
        report = replace(
            report, outcome=Outcome.WITHHELD if image is None else Outcome.STEERED, attempts=tuple(attempts),
            nfe=first.nfe + task.nfe, seconds=time.monotonic() - began, reason=reason,
        )  # fmt: skip
        return image, report

    def _task(self, i: int, row: _Row, first: Pass, kwargs: dict[str, Any]) -> SteerTask:
        start = first.start
        clean = first.latents if first.latents is not None else first.denoised
        assert start is not None
        assert clean is not None
        clean = clean[i : i + 1]
        texts = tuple(p for p in self.preferred if isinstance(p, str))
        pictures = [p for p in self.preferred if not isinstance(p, str)]
        wanted = self.protected.encode(pictures) if pictures and self.protected else None
        return SteerTask(
            self.generator, row.prompt, row.seed, kwargs, start[i : i + 1], clean,
            self._unwanted(row.detections, clean[:0], fallback=clean), texts, wanted,
        )  # fmt: skip

    def _unwanted(self, found: Sequence[Detection], known: Tensor, fallback: Tensor | None = None) -> Tensor:
        """Latents of what the flagged findings matched, added to what is known; else the flagged latent itself."""
        ids = list(dict.fromkeys(d.matched for d in found if d.flagged and d.matched))
        new = self.protected.latents(ids) if self.protected and ids else None
        if new is not None and len(new):
            return torch.cat([known, new.to(known)]).unique(dim=0)
        return known if len(known) or fallback is None else fallback


def _checked_prompts(prompt: str | Sequence[str]) -> list[str]:
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        raise InputError("no prompt was given; pass a string or a list of strings")
    for one in prompts:
        if not isinstance(one, str) or not one.strip():
            raise InputError(f"the prompt {one!r} is empty; say what the picture should show")
        if len(one) > LONGEST_PROMPT:
            raise InputError(
                f"a prompt of {len(one)} characters is too long; {LONGEST_PROMPT} is the most, and models read far less"
            )
    return prompts


def _check_numbers(images: int, kwargs: dict[str, Any]) -> None:
    if images < 1:
        raise InputError(f"num_images_per_prompt is {images}; it must be at least 1")
    steps = kwargs.get("num_inference_steps", 50)
    if not isinstance(steps, int) or steps < 1:
        raise InputError(f"num_inference_steps is {steps!r}; it must be a whole number of at least 1")


def _seeds(generator: torch.Generator | list[torch.Generator] | None, count: int) -> list[int]:
    """One seed per image for what an attempt draws; images that share a generator are told apart by their place."""
    if isinstance(generator, list):
        return [g.initial_seed() for g in generator]
    if generator is None:
        return [
            int(s)
            for s in torch.randint(
                0, 2**63 - 1, (count,), generator=torch.Generator().manual_seed(time.time_ns())
            )
        ]
    first = generator.initial_seed()
    return [first if count == 1 else derive(first, "image", i) for i in range(count)]
