"""The way of a request: generate, detect, nudge, verify, and hand out or withhold."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor

from steerclear.encoders.base import Encoder
from steerclear.errors import ConfigError, UnsupportedError
from steerclear.filters.base import Filter, PassFilter, PromptsFilter, answers, flagged, judge
from steerclear.filters.early import EarlyVerdict
from steerclear.generators import LeaveEarly, Pass, PipelineGenerator
from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.ladder import Budget, Ladder, strategies
from steerclear.nudge.prefer import WAYS
from steerclear.nudge.space import LATENT, PREVIEW, EncoderSpace, check_judges
from steerclear.protected import Protected
from steerclear.request import checked_arguments, checked_prompts, of_row, picture_size, unread
from steerclear.settle import settle
from steerclear.steering.seeds import seeds_of
from steerclear.types import Detection, GuardOutput, Outcome, Report

# for a pipeline that takes class labels: other classes first, of which most pass (docs/benchmarks/scalability.md), where the
# guard knows some; then what needs no text
WORDLESS_LADDER = (
    "rewrite",
    "rewrite",
    "rewrite",
    "trajectory",
    "shield",
    "final-latent",
    "resample",
    "resample",
)

_queues: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_queues_guard = threading.Lock()


@dataclass(frozen=True)
class _Row:
    """One requested image on its way."""

    prompt: str
    seed: int
    detections: tuple[Detection, ...]


class Guard:
    """Wraps a diffusers pipeline so that no flagged image is ever handed out.

    pipe: any supported pipeline, already on its device; its own safety checker must be None, since it blackens
    images and hides its scores. filters: what decides; at least one must see pictures or passes. protected: the library's items, from which
    the nudge pushes away. preferred: texts and PIL images that pull. alternatives: texts of what the model
    draws well: where nothing is preferred, the nearest of them to the prompt pulls, if any is near. strict: further
    filters that a steered picture must pass as well, usually the same with stricter thresholds. ladder: strategies and budget.
    early: an optional early verdict, which may end a doomed pass. prefer: how what pulls is chosen, see `nudge.prefer`.
    encoder: in whose space those rungs steer whose `space` is not the latent; it must not be what every filter sees by.
    Thread-safe: callers queue. Raises ConfigError for what cannot be guarded.
    """

    def __init__(
        self,
        pipe: Any,
        filters: Sequence[Filter | PassFilter | PromptsFilter],
        *,
        protected: Protected | None = None,
        preferred: Sequence[str | Image.Image] = (),
        alternatives: Sequence[str] = (),
        strict: Sequence[Filter] = (),
        ladder: Ladder | None = None,
        early: EarlyVerdict | None = None,
        prefer: str = "text",
        encoder: Encoder | None = None,
    ) -> None:
        self.filters = tuple(f for f in filters if isinstance(f, Filter))
        self.pass_filters = tuple(f for f in filters if isinstance(f, PassFilter))
        self.prompt_filters = tuple(f for f in filters if isinstance(f, PromptsFilter))
        blind = [f for f in filters if not isinstance(f, Filter | PassFilter | PromptsFilter)]
        if blind:
            raise ConfigError(
                f"{blind[0]!r} is no filter: it needs a name, a threshold, and check, check_pass or check_prompts"
            )
        if not self.filters and not self.pass_filters:
            raise ConfigError(
                "a guard whose filters see no picture would wave everything through; pass filters=[…]"
            )
        if getattr(pipe, "safety_checker", None) is not None:
            raise ConfigError(
                "this pipeline's safety_checker blackens images; set pipe.safety_checker = None and pass a filter"
            )
        self.generator = PipelineGenerator(pipe, max((f.steps for f in self.pass_filters), default=0))
        self.protected = protected
        self.preferred = tuple(preferred)
        self._encoded: dict[Any, Tensor] = {}
        self._encoded_for = self.preferred
        self.alternatives = tuple(alternatives)
        self.strict = tuple(strict)
        self.ladder = ladder or (Ladder() if self.generator.prompted else Ladder(strategies(WORDLESS_LADDER)))
        self.early = early
        if self.preferred and protected is None and any(not isinstance(p, str) for p in self.preferred):
            raise ConfigError(
                "preferred pictures are encoded as the protected ones are; pass protected=… as well"
            )
        if prefer not in WAYS:
            raise ConfigError(f"prefer is {prefer!r}; there are {', '.join(WAYS)}")
        self.prefer = prefer
        self.encoder = encoder
        if encoder is not None and any(getattr(r, "space", LATENT) != LATENT for r in self.ladder.rungs):
            check_judges(encoder, (*self.filters, *self.strict))
        with _queues_guard:  # one queue per scheduler, which carries the state, however many guards share it
            self._queue = _queues.setdefault(pipe.scheduler, threading.RLock())

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
        prompt: str | Sequence[str] | None = None,
        *,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        budget: Budget | None = None,
        **kwargs: Any,
    ) -> GuardOutput:
        """Generate and hand out only what passes.

        prompt, num_images_per_prompt, generator and all other keyword arguments go to the pipeline untouched; with
        generator=None the guard draws its own, so that the report's seed makes the picture again. A pipeline that takes
        class labels is given `class_labels=[…]` and no prompt: prompt filters see nothing of it.
        An image that no filter flags is bit-identical to the plain pipeline's. Raises InputError for an empty or
        overlong prompt, a step count below 1, and arguments that a guard cannot honour or the pipeline does not know.
        """
        prompts = checked_prompts(self.pipe, prompt, kwargs)
        if generator is None:
            generator = torch.Generator().manual_seed(secrets.randbits(63))
        plain = checked_arguments(self.pipe, num_images_per_prompt, len(prompts), generator, kwargs)
        if prompt is not None:
            plain["prompt"] = prompt if isinstance(prompt, str) else prompts
        with self._queue:
            began = time.monotonic()
            seeds = seeds_of(generator, len(prompts) * num_images_per_prompt)
            asked = [row for row in self._ask(prompts) for _ in range(num_images_per_prompt)]
            first, found = self._first_pass(plain, asked)
            # image-to-image does only a part of the scheduler's steps, which the pipeline knows
            running = getattr(self.pipe, "decoder_pipe", self.pipe)
            steps = getattr(running, "_num_timesteps", None) or len(self.pipe.scheduler.timesteps)
            whole = first.nfe_prior + (first.nfe - first.nfe_prior) * steps / max(1, first.steps)
            plain_nfe = first.nfe if first.images else whole
            shared = (time.monotonic() - began) / len(found)
            rows = [
                _Row(prompts[i // num_images_per_prompt], seeds[i], detections)
                for i, detections in enumerate(found)
            ]
            images: list[Image.Image | None] = []
            reports = []
            for i, row in enumerate(rows):
                own = of_row(kwargs, i // num_images_per_prompt, len(prompts))
                image, report = self._settle(i, row, first, plain_nfe, own, budget)
                images.append(image)
                cut = unread(self.pipe, row.prompt, own) if self.generator.prompted else None
                reports.append(replace(report, seconds=report.seconds + shared, unread=cut))
            return GuardOutput(images, reports)

    def check(self, images: Sequence[Image.Image]) -> list[tuple[Detection, ...]]:
        """The picture filters' findings on finished images, one tuple per image."""
        return judge(self.filters, images)

    def _ask(self, prompts: list[str]) -> list[tuple[Detection, ...]]:
        """The prompt filters' findings, one tuple per prompt; there are none of class labels."""
        if not self.generator.prompted:
            return [()] * len(prompts)
        columns = [answers(f, partial(f.check_prompts, prompts), len(prompts)) for f in self.prompt_filters]
        return [tuple(column[i] for column in columns) for i in range(len(prompts))]

    def _first_pass(
        self, plain: dict[str, Any], asked: list[tuple[Detection, ...]]
    ) -> tuple[Pass, list[tuple[Detection, ...]]]:
        """The plain pipeline, watched, and what decides on each image.

        It is left as soon as every image in it is known to be flagged: by its prompt, by how the pass goes, or early.
        """
        early = self.early if self.early and self.early.applies(self.pipe.scheduler, plain) else None
        found = asked

        def watch(made: Pass) -> None:
            nonlocal found
            assert made.denoised is not None
            if early is not None and made.steps == early.step + 1:
                found = _joined(found, [(d,) for d in early.look(made.denoised)])
            if self.pass_filters and made.steps == self.generator.traced:
                found = _joined(found, self._followed(made, len(found)))
            if all(any(d.flagged for d in row) for row in found):
                raise LeaveEarly

        first = self.generator.run(on_pass=watch, **plain)
        if first.images:
            if self.pass_filters and first.steps < self.generator.traced:
                found = _joined(found, self._followed(first, len(found)))
            # where the picture was finished, it decides, and not what it looked like early
            found = [tuple(d for d in row if d.filter != EarlyVerdict.name) for row in found]
            return first, _numbers(first, judge(self.filters, first.images, found))
        assert first.denoised is not None
        previews = self.protected.decode(first.denoised, picture_size(plain)) if self.protected else []
        return first, _joined(found, judge(self.filters, previews))

    def _followed(self, made: Pass, count: int) -> list[tuple[Detection, ...]]:
        """The pass filters' findings on `count` images."""
        columns = [
            answers(f, partial(f.check_pass, made.magnitudes, made.resumed, count), count)
            for f in self.pass_filters
        ]
        return list(zip(*columns, strict=True))

    def _settle(
        self, i: int, row: _Row, first: Pass, plain_nfe: float, kwargs: dict[str, Any], budget: Budget | None
    ) -> tuple[Image.Image | None, Report]:
        """Hand out, or climb the ladder for, one image of the first pass."""
        report = Report(
            row.prompt, row.seed, Outcome.CLEAR, row.detections, nfe=first.nfe, nfe_plain=plain_nfe
        )

        def verify(candidate: Candidate) -> tuple[Detection, ...]:
            known = self._followed(candidate.made, 1) if self.pass_filters else None
            return _numbers(candidate.made, judge((*self.filters, *self.strict), [candidate.image], known))[0]

        def learn(task: SteerTask, found: tuple[Detection, ...]) -> None:
            task.unwanted = self._unwanted(found, task.unwanted, picture_size(kwargs))

        return settle(
            report, first.images[i] if first.images else None, self.protected.withhold if self.protected else (),
            self.ladder if budget is None else replace(self.ladder, budget=budget),
            lambda: self._task(i, row, first, kwargs), verify, learn,
        )  # fmt: skip

    def _task(self, i: int, row: _Row, first: Pass, kwargs: dict[str, Any]) -> SteerTask:
        start = first.start
        clean = first.latents if first.latents is not None else first.denoised
        assert start is not None
        assert clean is not None
        clean = clean[i : i + 1].to(start)
        texts = tuple(p for p in self.preferred if isinstance(p, str))
        size = picture_size(kwargs)

        def passes(latent: Tensor) -> bool:
            assert self.protected is not None
            return not flagged(judge((*self.filters, *self.strict), self.protected.decode(latent, size))[0])

        return SteerTask(
            self.generator, row.prompt, row.seed, kwargs, start[i : i + 1], clean,
            self._unwanted(row.detections, clean[:0], size, fallback=clean), texts, self.alternatives,
            self.protected.captions(matched(row.detections)) if self.protected else (), self._wanted(clean, size),
            passes if self.protected else None, partial(self._space, size), self.prefer,
        )  # fmt: skip

    def _space(self, size: tuple[int, int] | None, name: str) -> EncoderSpace:
        """E of the objective. Raises ConfigError where the encoder is the only judge, UnsupportedError where there is none."""
        if self.encoder is None or self.protected is None:
            raise UnsupportedError(
                f"steering in the space of a {name} needs Guard(…, encoder=…, protected=…)"
            )
        check_judges(self.encoder, (*self.filters, *self.strict))
        look = self.protected.preview if name == PREVIEW else self.protected.pixels
        return EncoderSpace(self.encoder, partial(look, size=size))

    def _wanted(self, like: Tensor, size: tuple[int, int] | None) -> Tensor | None:
        """(D, …) latents of the preferred pictures, encoded once for each shape."""
        pictures = [p for p in self.preferred if not isinstance(p, str)]
        if not pictures or self.protected is None:
            return None
        if self._encoded_for is not self.preferred:
            self._encoded, self._encoded_for = {}, self.preferred
        key = (like.shape[1:], size)
        if key not in self._encoded:
            self._encoded[key] = self.protected.encode(pictures, like, size)
        return self._encoded[key]

    def _unwanted(
        self,
        found: Sequence[Detection],
        known: Tensor,
        size: tuple[int, int] | None,
        fallback: Tensor | None = None,
    ) -> Tensor:
        """Latents of what the flagged findings matched, added to what is known; else the flagged latent itself."""
        ids = matched(found)
        like = known if fallback is None else fallback
        new = self.protected.latents(ids, like, size) if self.protected and ids else None
        if new is not None and len(new):
            grown: Tensor = torch.unique(torch.cat([known, new.to(known)]), dim=0)
            return grown
        return known if len(known) or fallback is None else fallback


def matched(found: Sequence[Detection]) -> list[str]:
    """The items that flagged findings name, each once."""
    return list(dict.fromkeys(d.matched for d in found if d.flagged and d.matched))


def _joined(
    found: list[tuple[Detection, ...]], more: list[tuple[Detection, ...]]
) -> list[tuple[Detection, ...]]:
    """Both findings row by row; without more, the first alone."""
    return [(*a, *b) for a, b in zip(found, more, strict=True)] if more else found


def _numbers(made: Pass, found: list[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
    """The findings, and one that flags each image whose latent or pixels are not numbers: a filter sees it black."""
    why = "the latent or the decoded pixels are not finite"
    broken = Detection("finite", True, math.nan, 0.0, error=why)
    return [row if ok else (*row, broken) for row, ok in zip(found, made.finite, strict=True)]
