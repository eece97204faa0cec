"""The filters of one call, grouped by what they see: prompts, passes of the pipeline, and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image
from torch import Tensor

from steerclear.filters.base import Filter, PassFilter, PromptsFilter, answers, flagged, judge
from steerclear.filters.early import EarlyVerdict
from steerclear.filters.rolled_out import RolledOut
from steerclear.generators import Pass
from steerclear.types import Detection

Row = tuple[Detection, ...]  # the detections on one image


@dataclass(frozen=True, kw_only=True)
class Judges:
    """What decides on each image of a call.

    Attributes:
        filters: see pictures.
        pass_filters: see how a pass goes.
        prompt_filters: see prompts.
        strict: further filters that a steered picture must pass.
        early: the early verdict, if there is one.
        rolled_out: looks for the items that are enforced for a share of the seeds; the others do not.
    """

    filters: tuple[Filter, ...]
    pass_filters: tuple[PassFilter, ...]
    prompt_filters: tuple[PromptsFilter, ...]
    strict: tuple[Filter, ...]
    early: EarlyVerdict | None
    rolled_out: RolledOut | None = None

    @property
    def of_steered(self) -> tuple[Filter, ...]:
        """The filters that a steered picture must pass."""
        return (*self.filters, *self.strict)

    def on_prompts(self, texts: Sequence[list[str]], count: int) -> list[Row]:
        """The prompt filters' detections.

        Args:
            texts: the prompts, and beside them those for further text encoders; each list has one per prompt.
            count: number of prompts.
        """
        columns = [
            answers(f, partial(f.check_prompts, prompts), count)
            for prompts in texts
            for f in self.prompt_filters
        ]
        return [tuple(column[i] for column in columns) for i in range(count)]

    def on_pass(self, run: Pass, count: int) -> list[Row]:
        """Ask the pass filters about a run.

        Args:
            run: the run so far.
            count: number of its images.

        Returns:
            The detections on each image; an empty list without such filters.
        """
        if not self.pass_filters:
            return []
        columns = [
            answers(f, partial(f.check_pass, run.magnitudes, run.resumed, count), count)
            for f in self.pass_filters
        ]
        return list(zip(*columns, strict=True))

    def on_first(self, first: Pass, known: list[Row], suspicions: list[Row]) -> list[Row]:
        """Collect all detections on the finished pictures of a first pass.

        The early verdict also looks at the final latents: an image that it suspects must pass the strict
        filters.

        Args:
            first: a finished pass.
            known: the detections so far, which are kept.
            suspicions: the early verdict's detections at its own step.
        """
        # where the picture was finished, it decides, and not what it looked like early
        judged = judge(self.filters, first.images, known)
        if self.early is not None and first.latents is not None:
            suspicions = joined(suspicions or [()] * len(judged), self.suspicions(first.latents))
        return _with_finite(first, self._strictly(first.images, judged, suspicions))

    def on_candidate(self, run: Pass, image: Image.Image) -> Row:
        """Collect all detections on one steered picture.

        Args:
            run: the run that made it.
            image: the picture.
        """
        return _with_finite(run, judge(self.of_steered, [image], self.on_pass(run, 1) or None))[0]

    def on_rolled_out(self, image: Image.Image, seed: int, *, steered: bool) -> tuple[Row, Row]:
        """What a finished picture shows of the items that are enforced for a share of the seeds alone.

        Args:
            image: the picture.
            seed: of the requested image.
            steered: whether the strict filters look as well.

        Returns:
            The detections that decide, and the flagged ones of items that are only observed.
        """
        if self.rolled_out is None:
            return (), ()
        filters = self.of_steered if steered else self.filters
        return self.rolled_out.look(image, seed, [f.name for f in filters])

    def suspicions(self, latents: Tensor) -> list[Row]:
        """What the early verdict says of each latent; nothing where it cannot compare them."""
        early = self.early
        if early is None or not early.sees(latents):
            return []
        return [(d,) for d in answers(early, partial(early.check, latents), len(latents))]

    def _strictly(
        self, images: Sequence[Image.Image], judged: list[Row], suspicions: Sequence[Row]
    ) -> list[Row]:
        """The detections, with the strict filters' on clear images whose latents resemble a protected one."""
        suspects = [
            i for i, row in enumerate(suspicions) if any(d.flagged for d in row) and not flagged(judged[i])
        ]
        rows = judge(self.strict, [images[i] for i in suspects]) if self.strict and suspects else []
        further = dict(zip(suspects, rows, strict=bool(rows)))
        return [(*row, *further.get(i, ())) for i, row in enumerate(judged)]


def joined(detections: list[Row], more: list[Row]) -> list[Row]:
    """Append to each image's detections those of another list; the first list itself where the other is
    empty.

    Args:
        detections: one row per image.
        more: one row per image, or nothing.
    """
    return [(*a, *b) for a, b in zip(detections, more, strict=True)] if more else detections


def matched_items(detections: Sequence[Detection]) -> list[str]:
    """The items that flagged detections name, each once."""
    return list(dict.fromkeys(d.matched for d in detections if d.flagged and d.matched))


def _with_finite(run: Pass, detections: list[Row]) -> list[Row]:
    """Add a detection that flags each image whose latent or pixels are not finite: filters would see it
    black.
    """
    why = "the latent or the decoded pixels are not finite"
    if len(run.finite) != len(detections):
        why = f"the run says of {len(run.finite)} pictures, not of {len(detections)}, whether they are finite"
    broken = Detection("finite", flagged=True, score=math.nan, threshold=0.0, error=why)
    known = run.finite if len(run.finite) == len(detections) else [False] * len(detections)
    return [row if ok else (*row, broken) for row, ok in zip(detections, known, strict=True)]
