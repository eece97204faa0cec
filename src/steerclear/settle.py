"""Settle one image: hand it out, withhold it, or climb the ladder. The last step of every guard."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import TypeVar

from PIL import Image

from steerclear.devices import raise_if_lost
from steerclear.filters.base import flagged
from steerclear.nudge.base import Candidate, Task
from steerclear.nudge.ladder import Ladder
from steerclear.types import Detection, Outcome, Report

Detections = tuple[Detection, ...]
SomeTask = TypeVar("SomeTask", bound=Task)


def settle(
    report: Report,
    *,
    image: Image.Image | None,
    withhold: Collection[str],
    ladder: Ladder,
    prepare: Callable[[], SomeTask],
    verify: Callable[[Candidate, Image.Image], Detections],
    learn: Callable[[SomeTask, Detections], None],
) -> tuple[Image.Image | None, Report]:
    """The image to hand out, or None, and the finished report.

    Args:
        report: of the first image, with its detections, as if it were clear.
        image: that image; None where none was made.
        withhold: ids whose policy is that nothing is handed out.
        ladder: the strategies, and what they may cost.
        prepare: makes the task of a flagged image.
        verify: the filters on a candidate's picture, the very one that is handed out if it passes.
        learn: adds to the task what a failed candidate resembled.
    """
    if not flagged(report.detections):
        return image, report
    barred = _barred(report.detections, withhold)
    if barred:
        why = f"the library's policy for {barred!r} is to withhold"
        return None, replace(report, outcome=Outcome.WITHHELD, reason=why)
    began = time.monotonic()
    try:
        task = prepare()
    except Exception as error:  # the other images of the batch must not be lost with this one
        raise_if_lost(error)
        why = f"it could not be steered: {type(error).__name__}: {error}"
        return None, replace(report, outcome=Outcome.WITHHELD, reason=why)
    steered, attempts, reason = ladder.climb(
        task,
        plain_nfe=report.nfe_plain,
        before=report.detections,
        verify=verify,
        learn=lambda detections: learn(task, detections),
    )
    report = replace(
        report,
        outcome=Outcome.WITHHELD if steered is None else Outcome.STEERED,
        attempts=tuple(attempts),
        nfe=report.nfe + task.nfe,
        seconds=time.monotonic() - began,
        reason=reason,
    )
    return steered, report


def _barred(detections: Sequence[Detection], withhold: Collection[str]) -> str | None:
    """The first protected item that was matched and whose policy is to withhold."""
    return next((d.matched for d in detections if d.flagged and d.matched in withhold), None)
