"""The way of one call: generate, detect, nudge, verify, and hand out or withhold each image."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.encoders.base import Encoder
from steerclear.errors import InputError, UnsupportedError
from steerclear.filters.base import Filter, PassFilter, PromptsFilter, answers, flagged, judge
from steerclear.filters.early import EarlyVerdict
from steerclear.generators import LeaveEarly, Pass, PipelineRunner
from steerclear.generators.given import given_embeddings, of_negatives, of_prompts
from steerclear.generators.passes import InterruptedRun
from steerclear.nudge.base import Candidate, OrdinaryPrompts, Rewriter, SteerTask
from steerclear.nudge.ladder import Ladder
from steerclear.nudge.space import PREVIEW, EncoderSpace, check_judges
from steerclear.pixels import to_image, to_tensor
from steerclear.protected import Protected
from steerclear.request import of_row, picture_size, unread
from steerclear.settle import settle
from steerclear.steering.seeds import seeds_of, telling_seeds
from steerclear.types import Detection, GuardOutput, Outcome, Report

MOST_COMPARED = 2048  # protected latents that a first prediction is compared with
PLACEHOLDER = (128, 128, 128)  # plain grey


@dataclass(frozen=True)
class _Row:
    """One requested image on its way."""

    prompt: str
    seed: int
    detections: tuple[Detection, ...]


@dataclass(frozen=True, kw_only=True)
class GuardedCall:
    """One call of a guard, with the guard's parts as they are at its beginning.

    Attributes:
        runner: of the guard's pipeline.
        filters: what decides on pictures; pass_filters on how a pass goes, prompt_filters on prompts.
        pass_filters: see filters.
        prompt_filters: see filters.
        strict: further filters that a steered picture must pass.
        protected: the library's items; None without a library.
        preferred: texts and pictures that pull.
        encoded: latents (D, …) of the preferred pictures by latent shape and picture size, kept from call to
            call.
        alternatives: texts of what the model draws well.
        ladders: strategies and budget of each image.
        early: the early verdict, if there is one.
        prefer: how what pulls is chosen.
        encoder: in whose space strategies steer that need one.
        ordinary: what calibration knows of ordinary prompts on this model.
        rewriter: proposes texts for a flagged prompt, or None.
        placeholders: whether a plain grey picture stands for an image that is withheld, or None.
        prompts: one per prompt of the call; names of classes for a pipeline of class labels.
        images_per_prompt: how many images of each.
        generator: of the noise.
        arguments: what the plain pipeline is called with.
        kwargs: the caller's own keyword arguments.
        output_type: what is handed out, see `GuardOutput`.
        library_version: of the library that the parts were built of; None for parts that the user gave.
        first_predictions: the first pass's predictions (B, …) at its first step, once it has begun.
    """

    runner: PipelineRunner
    filters: tuple[Filter, ...]
    pass_filters: tuple[PassFilter, ...]
    prompt_filters: tuple[PromptsFilter, ...]
    strict: tuple[Filter, ...]
    protected: Protected | None
    preferred: tuple[str | Image.Image, ...]
    encoded: dict[Any, Tensor]
    alternatives: tuple[str, ...]
    ladders: Sequence[Ladder]
    early: EarlyVerdict | None
    prefer: str
    encoder: Encoder | None
    ordinary: OrdinaryPrompts | None
    rewriter: Rewriter | None
    placeholders: bool
    prompts: list[str]
    images_per_prompt: int
    generator: torch.Generator | list[torch.Generator]
    arguments: dict[str, Any]
    kwargs: dict[str, Any]
    output_type: str = "pil"
    library_version: int | None = None
    first_predictions: list[Tensor] = field(default_factory=list, init=False)

    @property
    def pipe(self) -> Any:
        """The pipeline."""
        return self.runner.pipe

    def run(self) -> GuardOutput:
        """Make all images of the call, and hand out what passes; None stands for what is withheld."""
        began = time.monotonic()
        count = len(self.prompts) * self.images_per_prompt
        seeds, telling = seeds_of(self.generator, count), telling_seeds(self.generator, count)
        if self.kwargs.get("latents") is not None:
            telling = [None] * count  # the noise is the caller's own
        elif self.kwargs.get("mask_image") is not None and count > 1:
            telling = [None] * count  # the first generator encodes the masked picture of all
        known = [row for row in self._check_prompts() for _ in range(self.images_per_prompt)]
        self.runner.cancelled = self._all_cancelled
        before = self.runner.evaluations
        try:
            first, detections = self._first_pass(known)
        except InterruptedRun as stop:
            nfe = (self.runner.evaluations - before) / count
            return self._interrupted(known, telling, reason=str(stop), nfe=nfe, began=began)
        # image-to-image does only a part of the scheduler's steps, which the pipeline knows
        running = getattr(self.pipe, "decoder_pipe", self.pipe)
        steps = getattr(running, "_num_timesteps", None) or len(self.pipe.scheduler.timesteps)
        whole = first.nfe_prior + (first.nfe - first.nfe_prior) * steps / max(1, first.steps)
        plain_nfe = first.nfe if first.images else whole
        shared = (time.monotonic() - began) / len(detections)
        rows = [
            _Row(self.prompts[i // self.images_per_prompt], seeds[i], row) for i, row in enumerate(detections)
        ]
        images: list[Image.Image | None] = []
        latents: list[Tensor | None] = []
        reports = []
        for i, row in enumerate(rows):
            arguments = of_row(self.kwargs, i // self.images_per_prompt, len(self.prompts))
            self.runner.cancelled = self.ladders[i].budget.cancelled
            image, latent, report = self._settle(i, row, first, plain_nfe, arguments)
            images.append(image)
            latents.append(latent)
            read = self.runner.prompted and not of_prompts(given_embeddings(arguments))
            cut = unread(self.pipe, row.prompt, arguments) if read else None
            reports.append(
                replace(
                    report,
                    seed=telling[i],
                    seconds=report.seconds + shared,
                    unread=cut,
                    library_version=self.library_version,
                )
            )
        if self.output_type == "latent":
            return GuardOutput(self._latents(latents, images, first), reports)
        return GuardOutput(self._shown(images, partial(self._size, first)), reports)

    def _all_cancelled(self) -> bool:
        """Whether nobody waits for any image of the call; every budget is asked."""
        budgets = {id(ladder.budget): ladder.budget for ladder in self.ladders}.values()
        return all([budget.cancelled is not None and budget.cancelled() for budget in budgets])

    def _interrupted(
        self,
        known: Sequence[tuple[Detection, ...]],
        seeds: Sequence[int | None],
        *,
        reason: str,
        nfe: float,
        began: float,
    ) -> GuardOutput:
        """What a call ends with whose first pass the caller ended: nothing, and a report for each image."""
        seconds = (time.monotonic() - began) / len(known)
        reports = [
            Report(
                self.prompts[i // self.images_per_prompt],
                seeds[i],
                Outcome.WITHHELD,
                detections,
                nfe=nfe,
                nfe_plain=nfe,
                seconds=seconds,
                reason=reason,
                library_version=self.library_version,
            )
            for i, detections in enumerate(known)
        ]
        nothing: list[Any] = [None] * len(known)
        shown = nothing if self.output_type == "latent" else self._shown(nothing, partial(self._size, Pass()))
        return GuardOutput(shown, reports)

    def _shown(self, images: list[Image.Image | None], size: Callable[[], tuple[int, int]]) -> Any:
        """The images in the form that the caller asked for.

        A plain grey picture of (width, height) stands for None where the guard was told so.
        """
        if self.placeholders and None in images:
            grey = Image.new("RGB", size(), PLACEHOLDER)
            images = [grey if image is None else image for image in images]
        if self.output_type == "pil":
            return images
        pixels = [None if image is None else to_tensor([image]) for image in images]
        if self.output_type == "pt":
            device = self.pipe._execution_device
            return _stacked([None if row is None else row.to(device) for row in pixels])
        rows = _stacked([None if row is None else row.permute(0, 2, 3, 1) for row in pixels])
        if isinstance(rows, Tensor):
            return rows.numpy()
        return [None if row is None else row.numpy() for row in rows]

    def _latents(
        self, latents: list[Tensor | None], images: Sequence[Image.Image | None], first: Pass
    ) -> Any:
        """The latents of the images that are handed out; zeros for None where the guard was told so."""
        blank = first.latents if first.latents is not None else first.denoised
        handed_out: list[Tensor | None] = []
        for latent, image in zip(latents, images, strict=True):
            if image is not None and latent is None:
                raise UnsupportedError(
                    f"which latent {type(self.pipe).__name__} decodes here is not known; ask for pictures"
                )
            grey = torch.zeros_like(blank[:1]) if self.placeholders and blank is not None else None
            handed_out.append(grey if image is None or latent is None else latent.clone())
        return _stacked(handed_out)

    def _size(self, first: Pass) -> tuple[int, int]:
        """(width, height) of the call's pictures."""
        if first.images:
            return first.images[0].size
        if (size := picture_size(self.arguments)) is not None:
            return size[::-1]
        if self.protected is not None and first.denoised is not None:
            return self.protected.decode(first.denoised[:1])[0].size
        return (512, 512)

    def _check_prompts(self) -> list[tuple[Detection, ...]]:
        """The prompt filters' detections, one tuple per prompt; there are none of class labels."""
        if not self.runner.prompted:
            return [()] * len(self.prompts)
        columns = [
            answers(f, partial(f.check_prompts, prompts), len(prompts))
            for prompts in self._texts()
            for f in self.prompt_filters
        ]
        return [tuple(column[i] for column in columns) for i in range(len(self.prompts))]

    def _texts(self) -> list[list[str]]:
        """The prompts, and beside them those for a second and third text encoder where the call has some."""
        texts = [self.prompts]
        for name in ("prompt_2", "prompt_3"):
            given = self.kwargs.get(name)
            if not given:
                continue
            texts.append([given] * len(self.prompts) if isinstance(given, str) else list(given))
            if len(texts[-1]) != len(self.prompts):
                raise InputError(
                    f"{len(texts[-1])} texts of {name} were given for {len(self.prompts)} prompts"
                )
        return texts

    def _first_pass(self, known: list[tuple[Detection, ...]]) -> tuple[Pass, list[tuple[Detection, ...]]]:
        """The plain pipeline, watched, and what decides on each image.

        It is left as soon as every image in it is known to be flagged: by its prompt, by how the pass goes,
            or early.
        """
        early, arguments = self.early, self.arguments
        detections = known
        # latents that resemble a protected one: an early detection ends the pass, a suspicion only has the
        # strict filters look at the finished picture
        early_detections, suspicions = list[tuple[Detection, ...]](), list[tuple[Detection, ...]]()

        def watch(running: Pass) -> None:
            nonlocal detections, early_detections, suspicions
            assert running.denoised is not None
            if running.steps == 1:
                self.first_predictions[:] = [running.denoised]
            if early is not None and running.steps == early.step + 1:
                suspicions = _suspicions(early, running.denoised)
                if early.applies(self.pipe.scheduler, arguments, running.denoised):
                    early_detections = suspicions
            if self.pass_filters and running.steps == self.runner.traced:
                detections = _joined(detections, self._check_pass(running, len(detections)))
            if all(any(d.flagged for d in row) for row in _joined(detections, early_detections)):
                raise LeaveEarly

        first = self.runner.run(on_pass=watch, **arguments)
        if first.images:
            if self.pass_filters and first.steps < self.runner.traced:
                detections = _joined(detections, self._check_pass(first, len(detections)))
            # where the picture was finished, it decides, and not what it looked like early
            judged = judge(self.filters, first.images, detections)
            if early is not None and first.latents is not None:
                suspicions = _joined(suspicions or [()] * len(judged), _suspicions(early, first.latents))
            return first, _with_finite(first, self._strictly(first.images, judged, suspicions))
        assert first.denoised is not None
        previews = (
            self.protected.decode(first.denoised, picture_size(self.arguments)) if self.protected else []
        )
        return first, _joined(_joined(detections, early_detections), judge(self.filters, previews))

    def _strictly(
        self,
        images: Sequence[Image.Image],
        judged: list[tuple[Detection, ...]],
        suspicions: Sequence[tuple[Detection, ...]],
    ) -> list[tuple[Detection, ...]]:
        """The detections, with the strict filters' on clear images whose latents resemble a protected one."""
        suspects = [
            i for i, row in enumerate(suspicions) if any(d.flagged for d in row) and not flagged(judged[i])
        ]
        rows = judge(self.strict, [images[i] for i in suspects]) if self.strict and suspects else []
        further = dict(zip(suspects, rows, strict=bool(rows)))
        return [(*row, *further.get(i, ())) for i, row in enumerate(judged)]

    def _check_pass(self, run: Pass, count: int) -> list[tuple[Detection, ...]]:
        """The pass filters' detections on `count` images."""
        columns = [
            answers(f, partial(f.check_pass, run.magnitudes, run.resumed, count), count)
            for f in self.pass_filters
        ]
        return list(zip(*columns, strict=True))

    def _settle(
        self, i: int, row: _Row, first: Pass, plain_nfe: float, kwargs: dict[str, Any]
    ) -> tuple[Image.Image | None, Tensor | None, Report]:
        """Hand out, or climb the ladder for, one image of the first pass. The tensor is its latent (1, …)."""
        report = Report(
            row.prompt, row.seed, Outcome.CLEAR, row.detections, nfe=first.nfe, nfe_plain=plain_nfe
        )

        latent = None if first.latents is None else first.latents[i : i + 1]

        def verify(candidate: Candidate, image: Image.Image) -> tuple[Detection, ...]:
            nonlocal latent
            latent = candidate.run.latents  # the last that is verified is what is handed out
            known = self._check_pass(candidate.run, 1) if self.pass_filters else None
            return _with_finite(candidate.run, judge((*self.filters, *self.strict), [image], known))[0]

        def learn(task: SteerTask, detections: tuple[Detection, ...]) -> None:
            task.unwanted = self._unwanted(detections, task.unwanted, picture_size(kwargs))

        image, report = settle(
            report,
            image=first.images[i] if first.images else None,
            withhold=self.protected.withhold if self.protected else (),
            ladder=self.ladders[i],
            prepare=lambda: self._task(i, row, first, kwargs),
            verify=verify,
            learn=learn,
        )
        return image, latent, report

    def _task(self, i: int, row: _Row, first: Pass, kwargs: dict[str, Any]) -> SteerTask:
        start = first.start
        clean = first.latents if first.latents is not None else first.denoised
        assert start is not None
        assert clean is not None
        clean = clean[i : i + 1].to(start)
        size = picture_size(kwargs)

        def passes(latent: Tensor) -> bool:
            assert self.protected is not None
            with torch.no_grad():
                pixels = self.protected.pixels(latent, size)
            if not bool(pixels.isfinite().all()):
                return False
            return not flagged(judge((*self.filters, *self.strict), [to_image(row) for row in pixels])[0])

        device = self.pipe._execution_device
        given = given_embeddings(kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in (*given, "latents")}
        if of_negatives(given):
            kwargs.pop("negative_prompt", None)  # a None, beside which some families cannot encode anything
        task = SteerTask(
            runner=self.runner,
            prompt=row.prompt,
            seed=row.seed,
            kwargs=kwargs,
            given={k: v.detach().to(device) if isinstance(v, Tensor) else v for k, v in given.items()},
            start=start[i : i + 1],
            clean=clean,
            unwanted=self._unwanted(row.detections, clean[:0], size, fallback=clean),
            preferred_texts=tuple(p for p in self.preferred if isinstance(p, str)),
            alternatives=self.alternatives,
            captions=self.protected.captions(matched_items(row.detections)) if self.protected else (),
            preferred_latents=self._preferred_latents(clean, size),
            passes=passes if self.protected else None,
            spaces=partial(self._space, size),
            prefer=self.prefer,
            protected=partial(self._protected_latents, clean, size) if self.protected else None,
            ordinary=self.ordinary,
            shared_words=self.protected.shared_words if self.protected else frozenset(),
            rewriter=self.rewriter,
            shows=self._shows(first),
            first_prediction=next((rows[i : i + 1] for rows in self.first_predictions), None),
        )
        task.kwargs = _telling_the_attempt(kwargs, task)
        return task

    def _shows(self, first: Pass) -> Callable[[int, Tensor], str | None] | None:
        """What recognises a protected item in a prediction; None where the early verdict may end no pass.

        The verdict's threshold holds for its own step. Later ones show an ordinary picture less like any
        protected one (docs/benchmarks/early.md), so there it is on the safe side.
        """
        early = self.early
        if early is None or first.denoised is None:
            return None
        if not early.applies(self.pipe.scheduler, self.arguments, first.denoised):
            return None

        def shows(step: int, denoised: Tensor) -> str | None:
            seen = early.check(denoised)[0] if step >= early.step else None
            return seen.matched if seen is not None and seen.flagged else None

        return shows

    def _protected_latents(self, like: Tensor, size: tuple[int, int] | None) -> Tensor:
        """(N, …) latents of the library's items, of at most MOST_COMPARED in even steps."""
        assert self.protected is not None
        ids = list(self.protected.pictures)
        count = min(MOST_COMPARED, len(ids))
        return self.protected.latents([ids[i * len(ids) // count] for i in range(count)], like, size)

    def _space(self, size: tuple[int, int] | None, name: str) -> EncoderSpace:
        """E of the objective. Raises ConfigError where the encoder is the only judge, UnsupportedError where
        there is none.
        """
        if self.encoder is None or self.protected is None:
            raise UnsupportedError(
                f"steering in the space of a {name} needs Guard(…, encoder=…, protected=…)"
            )
        check_judges(self.encoder, (*self.filters, *self.strict))
        look = self.protected.preview if name == PREVIEW else self.protected.pixels
        return EncoderSpace(self.encoder, partial(look, size=size))

    def _preferred_latents(self, like: Tensor, size: tuple[int, int] | None) -> Tensor | None:
        """(D, …) latents of the preferred pictures, encoded once for each shape."""
        pictures = [p for p in self.preferred if not isinstance(p, str)]
        if not pictures or self.protected is None:
            return None
        key = (like.shape[1:], size)
        if key not in self.encoded:
            self.encoded[key] = self.protected.encode(pictures, like, size)
        return self.encoded[key]

    def _unwanted(
        self,
        detections: Sequence[Detection],
        known: Tensor,
        size: tuple[int, int] | None,
        fallback: Tensor | None = None,
    ) -> Tensor:
        """Latents of what the flagged detections matched, added to what is known; else the flagged latent
        itself.
        """
        ids = matched_items(detections)
        like = known if fallback is None else fallback
        new = self.protected.latents(ids, like, size) if self.protected and ids else None
        if new is not None and len(new):
            grown: Tensor = torch.unique(torch.cat([known, new.to(known)]), dim=0)
            return grown
        return known if len(known) or fallback is None else fallback


def _telling_the_attempt(kwargs: dict[str, Any], task: SteerTask) -> dict[str, Any]:
    """The arguments, with a callback that is also told which strategy is being tried."""
    callback = kwargs.get("callback_on_step_end")
    if callback is None:
        return kwargs

    def called(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> Any:
        return callback(pipe, step, timestep, {**values, "attempt": task.strategy})

    # diffusers asks the objects of its own callback classes which tensors they want
    names = getattr(callback, "tensor_inputs", kwargs.get("callback_on_step_end_tensor_inputs", ["latents"]))
    return {**kwargs, "callback_on_step_end": called, "callback_on_step_end_tensor_inputs": names}


def _stacked(rows: list[Tensor | None]) -> Any:
    """Rows (1, …) as one batch, or where one is missing as a list of them without their first dimension."""
    present = [row for row in rows if row is not None]
    if len(present) == len(rows):
        return torch.cat(present)
    return [None if row is None else row[0] for row in rows]


def matched_items(detections: Sequence[Detection]) -> list[str]:
    """The items that flagged detections name, each once."""
    return list(dict.fromkeys(d.matched for d in detections if d.flagged and d.matched))


def _suspicions(early: EarlyVerdict, latents: Tensor) -> list[tuple[Detection, ...]]:
    """What the early verdict says of each latent; nothing where it cannot compare them."""
    if not early.sees(latents):
        return []
    return [(d,) for d in answers(early, partial(early.check, latents), len(latents))]


def _joined(
    detections: list[tuple[Detection, ...]], more: list[tuple[Detection, ...]]
) -> list[tuple[Detection, ...]]:
    """Both lists of detections row by row; without more, the first alone."""
    return [(*a, *b) for a, b in zip(detections, more, strict=True)] if more else detections


def _with_finite(run: Pass, detections: list[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
    """The detections, and one that flags each image whose latent or pixels are not numbers: a filter sees it
    black.
    """
    why = "the latent or the decoded pixels are not finite"
    if len(run.finite) != len(detections):
        why = f"the run says of {len(run.finite)} pictures, not of {len(detections)}, whether they are finite"
    broken = Detection("finite", True, math.nan, 0.0, error=why)
    known = run.finite if len(run.finite) == len(detections) else [False] * len(detections)
    return [row if ok else (*row, broken) for row, ok in zip(detections, known, strict=True)]
