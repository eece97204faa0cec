"""The copy detector as a filter."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from steerclear.copy_detection.detector import CopyDetector
from steerclear.copy_detection.place import Match
from steerclear.copy_detection.protected_side import ProtectedSide, check_pixels, check_shape
from steerclear.errors import InputError
from steerclear.types import Detection

STRICT = 0.93  # score from which a steered or suspect picture is flagged


class Detector(Protocol):
    """What finds protected pictures in pictures, such as `CopyDetector`."""

    @property
    def unseen(self) -> Mapping[str, str]:
        """Why a protected picture is not looked for, by its id, for those that cannot be recognised."""
        ...

    @property
    def plain(self) -> Sequence[str]:
        """Ids of the protected pictures of which only nearly unaltered copies are sure to be found."""
        ...

    def look(self, images: Tensor) -> list[list[Match]]:
        """The protected pictures that each image (B, 3, H, W) shows or resembles, best first."""
        ...


@dataclass(frozen=True)
class CopyFilter:
    """Flags a picture that shows a protected one.

    Attributes:
        detector: does the work; several filters can share it.
        threshold: flagged from this score on. The score is the evidence over its thresholds, so that 1 is the
            point where a picture counts as a copy; below 1 is stricter.
        name: the filter's name.
    """

    detector: Detector
    threshold: float = 1.0
    name: str = "copy"
    cost: ClassVar[str] = "library"

    @classmethod
    def of(
        cls,
        pictures: Mapping[str, Tensor],
        *,
        threshold: float = 1.0,
        skip_blank: bool = False,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> CopyFilter:
        """Makes a filter for protected pictures.

        Args:
            pictures: (3, H, W) in [0, 1] by id.
            threshold: see the class.
            skip_blank: see `ProtectedSide.of`.
            device: see `ProtectedSide.of`.
            **options: of the `CopyDetector`.

        Raises:
            LibraryError: no picture, or a blank one.
        """
        side = ProtectedSide.of(pictures, skip_blank=skip_blank, device=device)
        return cls(CopyDetector(side, original_of=pictures.get, **options), threshold)

    def check(self, images: Tensor) -> list[Detection]:
        """Returns one detection per image (B, 3, H, W) in [0, 1].

        An image that cannot be looked at, such as one that is very long, is flagged, with the reason.
        """
        detections: list[Detection | None] = [None] * len(images)
        for i, image in enumerate(images):
            try:
                check_pixels(image, f"image {i}")
                check_shape(image, f"image {i}")
            except InputError as error:
                detections[i] = Detection(
                    self.name, flagged=True, score=math.nan, threshold=self.threshold, error=str(error)
                )
        readable = [i for i, detection in enumerate(detections) if detection is None]
        for i, matches in zip(readable, self.look(images[readable]) if readable else [], strict=True):
            detections[i] = self._detection(matches)
        return [detection for detection in detections if detection is not None]

    def look(self, images: Tensor) -> list[list[Match]]:
        """The protected pictures that each image shows or resembles, see `CopyDetector.look`."""
        return self.detector.look(images)

    def _detection(self, matches: list[Match]) -> Detection:
        if not matches:
            return Detection(self.name, flagged=False, score=0.0, threshold=self.threshold)
        best = matches[0]
        flagged = not best.score < self.threshold  # a score that is no number flags
        return Detection(
            self.name,
            flagged=flagged,
            score=best.score,
            threshold=self.threshold,
            matched=best.id,
            where=best.place,
        )
