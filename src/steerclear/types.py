"""What travels along the way of a request: detections, attempts, reports and the guard's output."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from PIL import Image


class Outcome(StrEnum):
    """How a request for one image ended."""

    CLEAR = "clear"
    STEERED = "steered"
    WITHHELD = "withheld"


@dataclass(frozen=True, slots=True)
class Detection:
    """One filter's finding on one image.

    score: the filter's own scale; threshold: the value it was compared with; matched: id of the protected
    item that it resembles, if the filter knows one; error: why the filter could not judge. An error, a score
    and a threshold that is not a number all mean flagged: a filter that cannot see must not wave a picture
    through.
    """

    filter: str
    flagged: bool
    score: float
    threshold: float
    matched: str | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        unsure = self.error is not None or math.isnan(self.score) or math.isnan(self.threshold)
        if unsure and not self.flagged:
            object.__setattr__(self, "flagged", True)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One rung of the ladder, tried once.

    strategy: the rung's name; nfe: denoiser evaluations that it cost; before and after: the detections of
    the image that it started from and of the image that it made; stopped: why the rung ended.
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
        return bool(self.after) and not any(d.flagged for d in self.after)


@dataclass(frozen=True, slots=True)
class Report:
    """What happened to one requested image, from first look to handing out.

    similarity_before and similarity_after: the nearest-neighbour score of the first image and of the image
    handed out (the last one tried, where nothing was); nfe_plain: what the plain pipeline spends on it; unread: the end of
    the prompt that no text encoder reads, where it is too long for them.
    """

    prompt: str
    seed: int
    outcome: Outcome
    detections: tuple[Detection, ...]
    attempts: tuple[Attempt, ...] = ()
    nfe: float = 0.0
    nfe_plain: float = 0.0
    seconds: float = 0.0
    reason: str | None = None
    unread: str | None = None

    @property
    def final_detections(self) -> tuple[Detection, ...]:
        """What the filters said of the last picture that was made."""
        return next((a.after for a in reversed(self.attempts) if a.after), self.detections)

    @property
    def matched(self) -> str | None:
        """The protected item that the first image resembled, where a filter flagged it."""
        return next((d.matched for d in self.detections if d.flagged and d.matched), None)

    @property
    def similarity_before(self) -> float | None:
        return _nearest(self.detections)

    @property
    def similarity_after(self) -> float | None:
        return _nearest(self.final_detections)

    @property
    def overhead(self) -> float:
        """NFE spent, divided by the plain pipeline's."""
        return self.nfe / self.nfe_plain if self.nfe_plain else 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary, the derived figures included."""
        out = asdict(self)
        out["outcome"] = str(self.outcome)
        out["before"], out["after"] = self.similarity_before, self.similarity_after
        out["matched"] = self.matched
        return out


def _nearest(detections: tuple[Detection, ...]) -> float | None:
    return next((d.score for d in detections if d.filter == "nearest" and math.isfinite(d.score)), None)


@dataclass(frozen=True, slots=True)
class GuardOutput:
    """What a guard hands out; it can be read as a diffusers pipeline's output can.

    Attributes:
        images: one per requested image; where `reports[i].outcome` is withheld it is None, or a placeholder if the guard
            was told so.
        reports: one per image.
    """

    images: list[Image.Image | None]
    reports: list[Report] = field(default_factory=list)

    @property
    def nsfw_content_detected(self) -> list[bool]:
        """True exactly where the image was withheld; the name is what callers of diffusers pipelines look for."""
        return [report.outcome is Outcome.WITHHELD for report in self.reports]

    def to_tuple(self) -> tuple[list[Image.Image | None], list[bool]]:
        """What a pipeline returns with `return_dict=False`."""
        return self.images, self.nsfw_content_detected

    def __getitem__(self, key: int | str) -> Any:
        """`output[0]` and `output["images"]` are the images, as of a pipeline's output."""
        if isinstance(key, str):
            if key not in ("images", "nsfw_content_detected", "reports"):
                raise KeyError(key)
            return getattr(self, key)
        return self.to_tuple()[key]
