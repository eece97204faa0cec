"""The results of a request: detections, attempts, reports and the guard's output."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from numbers import Real
from typing import Any


class Outcome(StrEnum):
    """How a request for one image ended."""

    CLEAR = "clear"
    STEERED = "steered"
    WITHHELD = "withheld"
    OBSERVED = "observed"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture shows a protected one.

    Attributes:
        box: left, top, right, bottom of the part that shows it, in fractions of the picture's sides.
        scale: side of the whole protected picture over the picture's; above 1 where only a part of it is
            shown.
        turn: by how many degrees it is turned clockwise, in [−180, 180).
        mirrored: whether it is mirrored left to right before it is turned.
    """

    box: tuple[float, float, float, float]
    scale: float
    turn: float
    mirrored: bool


@dataclass(frozen=True, slots=True)
class Detection:
    """What one filter says of one image.

    Whatever the filter itself decided, an image counts as flagged as well if the score reaches the threshold,
    if there was an error, or if score or threshold is no finite real number: a filter that cannot see must
    not wave a picture through.

    Attributes:
        filter: the filter's name.
        flagged: whether the image must not be handed out.
        score: on the filter's own scale, growing with the danger; NaN where there is none.
        threshold: flagged from this score on.
        matched: the id of the protected item that the image resembles, if the filter knows one.
        error: why the filter could not judge.
        where: the place in the image that resembles the item, if the filter knows it.
    """

    filter: str
    flagged: bool
    score: float
    threshold: float
    matched: str | None = None
    error: str | None = None
    where: Place | None = None

    def __post_init__(self) -> None:
        for name in ("score", "threshold"):
            value = getattr(self, name)
            if isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value):
                continue
            if self.error is None:
                object.__setattr__(self, "error", f"the {name} {value!r} is no finite number")
            if not isinstance(value, float):
                # a report is written as JSON, which knows numbers alone
                object.__setattr__(self, name, math.nan)
        if self.error is not None or self.score >= self.threshold or self.flagged:
            object.__setattr__(self, "flagged", True)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rung of the ladder, tried once.

    Attributes:
        strategy: the rung's name.
        seed: of whatever it drew.
        nfe: denoiser evaluations that it cost.
        seconds: wall time.
        before: the detections of the image that it started from.
        after: the detections of the image that it made; empty where it made none.
        stopped: why the rung ended.
    """

    strategy: str
    seed: int
    nfe: float
    seconds: float
    before: tuple[Detection, ...]
    after: tuple[Detection, ...]
    stopped: str

    @property
    def passed(self) -> bool:
        """Whether it made an image that no filter flags."""
        return bool(self.after) and not any(d.flagged for d in self.after)


@dataclass(frozen=True, slots=True)
class Report:
    """What happened to one requested image, from the first look to handing out.

    Attributes:
        prompt: as the caller wrote it; the class's name for a pipeline of class labels; "" where embeddings
            were given and no text.
        seed: a new generator of this seed makes this image again; None where no seed tells, since images
            shared the caller's generator, it had been drawn from before, or the noise was the caller's own.
        outcome: clear, steered or withheld; or observed: handed out, though it resembles a protected item,
            since that item is not enforced for this seed (see `observed`).
        detections: of the first image, all filters'.
        attempts: every rung that was tried, in order.
        nfe: denoiser evaluations spent on this image in all.
        nfe_plain: what the plain pipeline spends on it.
        seconds: wall time, with this image's share of what the batch took together.
        reason: why nothing was handed out; None otherwise.
        unread: the end of the prompt that no text encoder reads, where it is too long for them.
        library_version: of the library that the image was compared with, see `Library.log`; None for a guard
            whose parts the caller built.
        observed: flagged detections of the picture that is handed out, by items that are only observed for
            this seed: somebody has put them to less than 100 % with `steerclear library share`.
    """

    prompt: str
    seed: int | None
    outcome: Outcome
    detections: tuple[Detection, ...]
    attempts: tuple[Attempt, ...] = ()
    nfe: float = 0.0
    nfe_plain: float = 0.0
    seconds: float = 0.0
    reason: str | None = None
    unread: str | None = None
    library_version: int | None = None
    observed: tuple[Detection, ...] = ()

    @property
    def final_detections(self) -> tuple[Detection, ...]:
        """What the filters said of the last picture that was made."""
        return next((a.after for a in reversed(self.attempts) if a.after), self.detections)

    @property
    def matched(self) -> str | None:
        """The protected item that the first image resembled, where a filter flagged it; else an observed one
        that the image handed out resembles.
        """
        seen = (*self.detections, *self.observed)
        return next((d.matched for d in seen if d.flagged and d.matched), None)

    @property
    def where(self) -> Place | None:
        """The part of the image that resembles `matched`, where a filter that flagged it knows."""
        seen = (*self.detections, *self.observed)
        return next((d.where for d in seen if d.flagged and d.matched == self.matched and d.where), None)

    @property
    def similarity_before(self) -> float | None:
        """The nearest-neighbour score of the first image."""
        return _nearest(self.detections)

    @property
    def similarity_after(self) -> float | None:
        """The nearest-neighbour score of the image that was handed out, or else of the last one tried."""
        return _nearest(self.final_detections)

    @property
    def overhead(self) -> float:
        """NFE spent, divided by the plain pipeline's."""
        return self.nfe / self.nfe_plain if self.nfe_plain else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary, the derived figures included."""
        fields = asdict(self)
        fields["outcome"] = str(self.outcome)
        fields["before"], fields["after"] = self.similarity_before, self.similarity_after
        fields["matched"] = self.matched
        fields["where"] = None if self.where is None else asdict(self.where)
        return fields


def _nearest(detections: tuple[Detection, ...]) -> float | None:
    return next((d.score for d in detections if d.filter == "nearest" and math.isfinite(d.score)), None)


@dataclass(frozen=True, slots=True)
class GuardOutput:
    """The output of a guard; it can be read like a diffusers pipeline's output.

    Attributes:
        images: one per requested image: a list of PIL images, or what `output_type` asks for, as a pipeline
            gives it: an array (B, H, W, 3) or a tensor (B, 3, H, W) in [0, 1] of the very pixels that were
            checked, or the latents of the pictures that were checked. Where `reports[i].outcome` is withheld,
            `images[i]` is None; with `on_withheld="placeholder"` it is a plain grey picture, or a latent of
            zeros. If any entry is None, `images` is a list, whatever the output type.
        reports: one per image.
    """

    images: Any
    reports: list[Report] = field(default_factory=list)

    @property
    def nsfw_content_detected(self) -> list[bool]:
        """True exactly where the image was withheld. Callers of diffusers pipelines look for this name."""
        return [report.outcome is Outcome.WITHHELD for report in self.reports]

    def to_tuple(self) -> tuple[Any, list[bool]]:
        """What a pipeline returns with `return_dict=False`."""
        return self.images, self.nsfw_content_detected

    def __getitem__(self, key: int | str) -> Any:
        """`output[0]` and `output["images"]` are the images, as of a pipeline's output."""
        if isinstance(key, str):
            if key not in ("images", "nsfw_content_detected", "reports"):
                raise KeyError(key)
            return getattr(self, key)
        return self.to_tuple()[key]
