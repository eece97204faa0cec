"""A guarded call of a GAN or a VAE: generate, detect, nudge in code space, verify, hand out or withhold."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from steerclear.devices import raising_if_lost
from steerclear.encoders.base import Encoder, check_embedding
from steerclear.errors import ConfigError, InputError
from steerclear.filters.base import Filter, flagged, judge
from steerclear.generators.code import CodeGenerator
from steerclear.generators.passes import finite_images
from steerclear.nudge.base import Candidate
from steerclear.nudge.code import CodeTask, code_ladder
from steerclear.nudge.ladder import Budget, Ladder
from steerclear.nudge.space import check_judges
from steerclear.pixels import fit, rgb_copy, to_tensor
from steerclear.settle import settle
from steerclear.steering.seeds import drawn, seeds_of, telling_seeds
from steerclear.types import Detection, GuardOutput, Outcome, Report

Detections = tuple[Detection, ...]


class CodeGuard:
    """Wraps a GAN's or a VAE's decoder so that no flagged image is ever handed out. Thread-safe: callers
    queue.

    Args:
        model: a GanGenerator or VaeGenerator.
        filters: what decides.
        protected: the library's pictures by id, (3, H, W) in [0, 1] each, from which the nudge pushes away.
        withhold: ids for which nothing is handed out.
        strict: further filters that a steered picture must pass as well.
        encoder: the space of the objective, differentiable, applied to the generated image. Without one it is
            the code itself: the push is away from the protected pictures' codes if the model has an encoder,
            else away from the flagged code.
        preferred: pictures that pull.
        samples: how many random images are drawn to pull where nothing is preferred; those that are clear do.
        ladder: strategies that act on codes, and budget.

    Raises:
        ConfigError: without a filter; for a ladder of a pipeline's strategies; for an encoder that is not
            differentiable, or by which every filter judges (see `check_judges`).
    """

    def __init__(
        self,
        model: CodeGenerator,
        filters: Sequence[Filter],
        *,
        protected: Mapping[str, Tensor] | None = None,
        withhold: Iterable[str] = (),
        strict: Sequence[Filter] = (),
        encoder: Encoder | None = None,
        preferred: Sequence[Image.Image] = (),
        samples: int = 32,
        ladder: Ladder | None = None,
    ) -> None:
        blind = [f for f in (*filters, *strict) if not isinstance(f, Filter)]
        if blind or not filters:
            named = repr(blind[0]) if blind else "an empty list"
            raise ConfigError(f"{named} sees no picture; pass filters with a name, a threshold and check")
        self.ladder = ladder or code_ladder()
        foreign = [rung.name for rung in self.ladder.rungs if getattr(rung, "acts_on", None) != "code"]
        if foreign:
            raise ConfigError(f"strategy {foreign[0]!r} acts on a pipeline; take steerclear.nudge.code.RUNGS")
        if encoder is not None:
            check_judges(encoder, (*filters, *strict))
        if preferred and encoder is None and not model.encodes:
            raise ConfigError("preferred pictures have no codes here; pass encoder=…")
        self.model = model
        self.filters, self.strict = tuple(filters), tuple(strict)
        self.protected = dict(protected or {})
        self.withhold = frozenset(withhold)
        self.encoder = encoder
        self.preferred = tuple(preferred)
        self.samples = samples
        self._points: dict[Any, Tensor] = {}

    def __call__(
        self,
        num_images: int = 1,
        *,
        generator: torch.Generator | list[torch.Generator] | None = None,
        budget: Budget | None = None,
    ) -> GuardOutput:
        """Random images, of which only those that pass are handed out.

        The noise is `torch.randn((num_images, *latent_shape), generator=generator)`. An image that no filter
        flags is bit-identical to what the module makes of it. What the module itself raises is passed on.

        Args:
            num_images: how many.
            generator: of the noise; a list has one for each image. With None the guard draws one for each,
                so that the report's seed makes it again.
            budget: of each flagged image of this call, in the place of the ladder's.

        Raises:
            InputError: for a number of images below 1, or another one than that of the generators.
        """
        if num_images < 1:
            raise InputError(f"num_images is {num_images}; it must be at least 1")
        if isinstance(generator, list) and len(generator) != num_images:
            raise InputError(f"{len(generator)} generators do not fit {num_images} images; pass one each")
        if generator is None:
            generator = drawn(num_images)
        with self.model.lock, raising_if_lost():
            telling = telling_seeds(generator, num_images)
            noise = self.model.noise(num_images, generator)
            return self._guarded(
                self.model.code(noise), seeds=seeds_of(generator, num_images), telling=telling, budget=budget
            )

    def reconstruct(
        self, images: Sequence[Image.Image], *, seed: int = 0, budget: Budget | None = None
    ) -> GuardOutput:
        """Images encoded and decoded, of which only those that pass are handed out.

        Args:
            images: one or more of one size.
            seed: for what an attempt draws.
            budget: of each flagged image of this call, in the place of the ladder's.

        Raises:
            InputError: for no image, or images of several sizes.
            UnsupportedError: for a model without an encoder.
        """
        if len({image.size for image in images}) != 1:
            raise InputError(f"{len(images)} images to reconstruct must be one or more of one size")
        with self.model.lock, raising_if_lost():
            code = self.model.encode(to_tensor(images))
            seeds = seeds_of(torch.Generator().manual_seed(seed), len(images))
            return self._guarded(code, seeds=seeds, telling=seeds, budget=budget)

    def check(self, images: Sequence[Image.Image]) -> list[Detections]:
        """The filters' findings on finished images, one tuple per image."""
        return judge(self.filters, images)

    @torch.no_grad()
    def _guarded(
        self, code: Tensor, seeds: list[int], telling: Sequence[int | None], budget: Budget | None
    ) -> GuardOutput:
        """Decode codes, and settle each image on its own.

        Args:
            code: (B, …) codes.
            seeds: for the random draws of each image's attempts.
            telling: for each image the seed that the report names, see `Report.seed`.
            budget: instead of the ladder's own.
        """
        began = time.monotonic()
        pictures = [None if image is None else rgb_copy(image) for image in self.model.pictures(code)]
        looked = iter(judge(self.filters, [image for image in pictures if image is not None]))
        detections = [_unseen() if image is None else next(looked) for image in pictures]
        shared = (time.monotonic() - began) / len(pictures)
        ladder = self.ladder if budget is None else replace(self.ladder, budget=budget)
        images: list[Image.Image | None] = []
        reports = []
        for i, first in enumerate(pictures):
            report = Report(
                "", seed=seeds[i], outcome=Outcome.CLEAR, detections=detections[i], nfe=1.0, nfe_plain=1.0
            )
            image, report = settle(
                report,
                image=first,
                withhold=self.withhold,
                ladder=ladder,
                prepare=partial(self._task, code[i : i + 1], image=first, seed=seeds[i], report=report),
                verify=self._verify,
                learn=partial(self._learn, first.size if first else (0, 0)),
            )
            images.append(image)
            reports.append(replace(report, seed=telling[i], seconds=report.seconds + shared))
        return GuardOutput(images, reports)

    def _verify(self, candidate: Candidate, image: Image.Image) -> Detections:
        detections = judge((*self.filters, *self.strict), [image])[0]
        finite = all((*finite_images(candidate.run), *candidate.run.finite))
        return detections if finite else (*detections, *_unseen())

    def _task(self, code: Tensor, image: Image.Image | None, seed: int, report: Report) -> CodeTask:
        if image is None:
            raise ArithmeticError("the module made pixels that are not finite")
        wishes = None
        if self.preferred:
            wishes = torch.cat([self._point(to_tensor([picture]), image.size) for picture in self.preferred])
        clear = self._clear() if wishes is None else None
        space = None if self.encoder is None else self._space
        task = CodeTask(
            model=self.model,
            seed=seed,
            code=code,
            space=space,
            unwanted=code[:0],
            preferred=wishes,
            clear=clear,
        )
        self._learn(image.size, task, report.detections)
        if not len(task.unwanted):  # nothing is known of what it resembles: away from itself, then
            task.unwanted = task.point(code)
        return task

    def _learn(self, size: tuple[int, int], task: CodeTask, detections: Detections) -> None:
        """Add the points of what flagged detections matched to what the task is pushed away from."""
        if self.encoder is None and not self.model.encodes:
            return
        for item in dict.fromkeys(d.matched for d in detections if d.flagged and d.matched in self.protected):
            assert item is not None
            if (item, size) not in self._points:
                self._points[item, size] = self._point(self.protected[item][None], size)
            new = self._points[item, size]
            task.unwanted = (
                torch.unique(torch.cat([task.unwanted, new]), dim=0) if len(task.unwanted) else new
            )

    def _space(self, code: Tensor) -> Tensor:
        """E of the objective, from codes (B, …) to embeddings (B, D) of their images; None where J acts on
        codes.
        """
        assert self.encoder is not None
        return self.encoder(fit(self.model.pixels(code), self.encoder.size))

    def _point(self, pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """Where pictures (B, 3, H, W) in [0, 1] lie in the objective's space; size: (width, height) of
        generated images.
        """
        if self.encoder is not None:
            return check_embedding(self.encoder(fit(pixels, self.encoder.size)), self.encoder, len(pixels))
        fitted = F.interpolate(pixels, size=size[::-1], mode="bicubic", antialias=True, align_corners=False)
        return self.model.encode(fitted.clamp(0, 1))

    def _clear(self) -> Tensor | None:
        """Points of random samples that pass every filter. Drawn once, reused by all requests, and counted in
        no report.
        """
        if self.samples < 1:
            return None
        if "clear" not in self._points:
            code = self.model.code(self.model.noise(self.samples, torch.Generator().manual_seed(0)))
            pictures = [(i, image) for i, image in enumerate(self.model.pictures(code)) if image is not None]
            detections = judge((*self.filters, *self.strict), [image for _, image in pictures])
            judged = zip(pictures, detections, strict=True)
            good = [(i, image) for (i, image), row in judged if not flagged(row)]
            points = code[[i for i, _ in good]]
            if self.encoder is not None and good:
                points = self._point(to_tensor([image for _, image in good]), good[0][1].size)
            self._points["clear"] = points
        return self._points["clear"]


def _unseen() -> Detections:
    error = "the module made pixels that are not finite"
    return (Detection("finite", flagged=True, score=math.nan, threshold=0.0, error=error),)
