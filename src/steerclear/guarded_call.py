"""One guarded call, top to bottom: generate, detect, nudge, verify, and hand out or withhold each image."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.errors import UnsupportedError
from steerclear.filters.base import judge
from steerclear.generators import LeaveEarly, Pass, PipelineRunner
from steerclear.generators.given import given_embeddings, of_prompts
from steerclear.generators.passes import InterruptedRun
from steerclear.handing_out import as_latents, as_pictures, with_placeholders
from steerclear.judges import Judges, Row, joined
from steerclear.nudge.base import Candidate
from steerclear.nudge.ladder import Ladder
from steerclear.pixels import rgb_copy
from steerclear.prompts import unread
from steerclear.protected import Protected
from steerclear.request import Request, of_row, picture_size
from steerclear.settle import settle
from steerclear.steer_tasks import SteerTasks
from steerclear.steering.seeds import seeds_of, telling_seeds
from steerclear.types import GuardOutput, Outcome, Report

# number of the image in its call, the picture that was flagged or None where there is none, and its report
OnFlagged = Callable[[int, Image.Image | None, Report], None]


@dataclass(frozen=True, kw_only=True)
class GuardedCall:
    """One call of a guard, with the guard's parts as they are at its beginning.

    Attributes:
        request: what was asked for, checked.
        judges: the filters.
        tasks: makes the task of a flagged image.
        ladders: strategies and budget of each image.
        placeholders: whether a plain grey picture stands for an image that is withheld, or None.
        library_version: of the library that the parts were built of; None for parts that the user gave.
        on_flagged: is shown what was flagged.
        previews: pictures of a first pass that was left before its end.
        first_predictions: the first pass's predictions (B, …) at its first step, once it has begun.
    """

    request: Request
    judges: Judges
    tasks: SteerTasks
    ladders: Sequence[Ladder]
    placeholders: bool
    library_version: int | None = None
    on_flagged: OnFlagged | None = None
    previews: list[Image.Image] = field(default_factory=list, init=False)
    first_predictions: list[Tensor] = field(default_factory=list, init=False)

    @property
    def runner(self) -> PipelineRunner:
        """Of the guard's pipeline."""
        return self.tasks.runner

    @property
    def pipe(self) -> Any:
        """The pipeline."""
        return self.runner.pipe

    @property
    def protected(self) -> Protected | None:
        """The library's items; None without a library."""
        return self.tasks.protected

    def run(self) -> GuardOutput:
        """Make all images of the call, and hand out what passes; None stands for what is withheld."""
        began = time.monotonic()
        request, count = self.request, self.request.count
        seeds, telling = seeds_of(request.generator, count), telling_seeds(request.generator, count)
        if not request.told_by_seeds:
            telling = [None] * count
        known = [row for row in self._check_prompts() for _ in range(request.images_per_prompt)]
        self.runner.cancelled = self._all_cancelled
        before = self.runner.evaluations
        try:
            first, detections = self._first_pass(known)
        except InterruptedRun as stop:
            nfe = (self.runner.evaluations - before) / count
            return self._interrupted(known, telling, reason=str(stop), nfe=nfe, began=began)
        plain_nfe = self._plain_nfe(first)
        shared = (time.monotonic() - began) / count
        images: list[Image.Image | None] = []
        latents: list[Tensor | None] = []
        reports = []
        for i, row in enumerate(detections):
            prompt = request.prompt_of(i)
            self.runner.cancelled = self.ladders[i].budget.cancelled
            arguments = of_row(request.kwargs, i // request.images_per_prompt, len(request.prompts))
            report = Report(
                prompt,
                seed=seeds[i],
                outcome=Outcome.CLEAR,
                detections=row,
                nfe=first.nfe,
                nfe_plain=plain_nfe,
            )
            image, latent, report = self._settle(i, report=report, first=first, kwargs=arguments)
            images.append(image)
            latents.append(latent)
            read = self.runner.prompted and not of_prompts(given_embeddings(arguments))
            reports.append(
                replace(
                    report,
                    seed=telling[i],
                    seconds=report.seconds + shared,
                    unread=unread(self.pipe, prompt, arguments) if read else None,
                    library_version=self.library_version,
                )
            )
            self._show_flagged(i, first, reports[i])
        if request.output_type == "latent":
            return GuardOutput(self._latents(latents, images, first), reports)
        return GuardOutput(self._shown(images, first), reports)

    def _show_flagged(self, i: int, first: Pass, report: Report) -> None:
        """Shows what was flagged to who asked for it; a pass that was left early has a rough picture."""
        if self.on_flagged is None or report.outcome is Outcome.CLEAR:
            return
        pictures = first.images or self.previews
        self.on_flagged(i, rgb_copy(pictures[i]) if pictures else None, report)

    def _plain_nfe(self, first: Pass) -> float:
        """The cost of the plain pipeline's whole pass, even if the first pass was left early."""
        if first.images:
            return first.nfe
        # image-to-image does only a part of the scheduler's steps, which the pipeline knows
        running = getattr(self.pipe, "decoder_pipe", self.pipe)
        steps = getattr(running, "_num_timesteps", None) or len(self.pipe.scheduler.timesteps)
        return first.nfe_prior + (first.nfe - first.nfe_prior) * steps / max(1, first.steps)

    def _all_cancelled(self) -> bool:
        """Whether nobody waits for any image of the call; every budget is asked."""
        budgets = {id(ladder.budget): ladder.budget for ladder in self.ladders}.values()
        answers = [budget.cancelled is not None and budget.cancelled() for budget in budgets]
        return all(answers)

    def _interrupted(
        self, known: Sequence[Row], seeds: Sequence[int | None], *, reason: str, nfe: float, began: float
    ) -> GuardOutput:
        """The output of a call whose first pass the caller ended: no image, and a report for each."""
        seconds = (time.monotonic() - began) / len(known)
        reports = [
            Report(
                self.request.prompt_of(i),
                seed=seeds[i],
                outcome=Outcome.WITHHELD,
                detections=detections,
                nfe=nfe,
                nfe_plain=nfe,
                seconds=seconds,
                reason=reason,
                library_version=self.library_version,
            )
            for i, detections in enumerate(known)
        ]
        nothing: list[Any] = [None] * len(known)
        shown = nothing if self.request.output_type == "latent" else self._shown(nothing, Pass())
        return GuardOutput(shown, reports)

    def _shown(self, images: list[Image.Image | None], first: Pass) -> Any:
        """The images in the form that the caller asked for."""
        if self.placeholders and None in images:
            images = with_placeholders(images, self._size(first))
        return as_pictures(images, self.request.output_type, self.pipe._execution_device)

    def _latents(
        self, latents: list[Tensor | None], images: Sequence[Image.Image | None], first: Pass
    ) -> Any:
        """The latents of the images that are handed out; zeros instead of None if the guard uses
        placeholders.
        """
        handed_out = [
            None if image is None else latent for latent, image in zip(latents, images, strict=True)
        ]
        if any(
            latent is None and image is not None for latent, image in zip(handed_out, images, strict=True)
        ):
            raise UnsupportedError(
                f"which latent {type(self.pipe).__name__} decodes here is not known; ask for pictures"
            )
        like = first.latents if first.latents is not None else first.denoised
        blank = torch.zeros_like(like[:1]) if self.placeholders and like is not None else None
        return as_latents(handed_out, blank)

    def _size(self, first: Pass) -> tuple[int, int]:
        """(width, height) of the call's pictures."""
        if first.images:
            return first.images[0].size
        if (size := picture_size(self.request.arguments)) is not None:
            return size[::-1]
        if self.protected is not None and first.denoised is not None:
            return self.protected.decode(first.denoised[:1])[0].size
        return (512, 512)

    def _check_prompts(self) -> list[Row]:
        """The prompt filters' detections, one tuple per prompt; there are none of class labels."""
        prompts = self.request.prompts
        if not self.runner.prompted:
            return [()] * len(prompts)
        return self.judges.on_prompts(self.request.texts(), len(prompts))

    def _first_pass(self, known: list[Row]) -> tuple[Pass, list[Row]]:
        """Run the plain pipeline, watched, and collect the detections on each image.

        The pass is left as soon as every image in it is known to be flagged: by its prompt, by how the pass
        goes, or by the early verdict.
        """
        judges, arguments = self.judges, self.request.arguments
        detections = known
        # latents that resemble a protected one: an early detection ends the pass, a suspicion only has the
        # strict filters look at the finished picture
        early_detections, suspicions = list[Row](), list[Row]()

        def watch(running: Pass) -> None:
            nonlocal detections, early_detections, suspicions
            assert running.denoised is not None
            if running.steps == 1:
                self.first_predictions[:] = [running.denoised]
            if judges.early is not None and running.steps == judges.early.step + 1:
                suspicions = judges.suspicions(running.denoised)
                if judges.early.applies(self.pipe.scheduler, arguments, running.denoised):
                    early_detections = suspicions
            if judges.pass_filters and running.steps == self.runner.traced:
                detections = joined(detections, judges.on_pass(running, len(detections)))
            if all(any(d.flagged for d in row) for row in joined(detections, early_detections)):
                raise LeaveEarly

        first = self.runner.run(on_pass=watch, **arguments)
        if first.images:
            if first.steps < self.runner.traced:
                detections = joined(detections, judges.on_pass(first, len(detections)))
            return first, judges.on_first(first, detections, suspicions)
        assert first.denoised is not None
        if self.protected is not None:
            self.previews[:] = self.protected.decode(first.denoised, picture_size(arguments))
        return first, joined(joined(detections, early_detections), judge(judges.filters, self.previews))

    def _settle(
        self, i: int, report: Report, first: Pass, kwargs: dict[str, Any]
    ) -> tuple[Image.Image | None, Tensor | None, Report]:
        """Hand out one image of the first pass, or climb the ladder for it.

        Returns:
            The image, or None; its latent (1, …); and its finished report.
        """
        latent = None if first.latents is None else first.latents[i : i + 1]
        seed, observed = report.seed or 0, Row()
        if first.images:
            decides, observed = self.judges.on_rolled_out(first.images[i], seed, steered=False)
            report = replace(report, detections=(*report.detections, *decides))

        def verify(candidate: Candidate, image: Image.Image) -> Row:
            nonlocal latent, observed
            latent = candidate.run.latents  # the last that is verified is what is handed out
            decides, observed = self.judges.on_rolled_out(image, seed, steered=True)
            return (*self.judges.on_candidate(candidate.run, image), *decides)

        image, report = settle(
            report,
            image=first.images[i] if first.images else None,
            withhold=self.protected.withhold if self.protected else (),
            ladder=self.ladders[i],
            prepare=lambda: self.tasks.of(
                i,
                first,
                report=report,
                first_prediction=next((rows[i : i + 1] for rows in self.first_predictions), None),
                arguments=self.request.arguments,
                kwargs=kwargs,
            ),
            verify=verify,
            learn=self.tasks.learn,
        )
        if image is not None and observed:
            outcome = Outcome.OBSERVED if report.outcome is Outcome.CLEAR else report.outcome
            report = replace(report, outcome=outcome, observed=observed)
        return image, latent, report
