"""steerclear: image generation that never hands out a flagged picture, and almost never hands out nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from steerclear._version import __version__

# where each public name is defined; `__getattr__` imports it on first use
_HOMES = {
    "AllPictures": "filters.pixel",
    "Attempt": "types",
    "Budget": "nudge.ladder",
    "Candidate": "nudge.base",
    "ClassifierFilter": "filters",
    "CodeGuard": "code_guard",
    "ConceptFilter": "filters",
    "ConfigError": "errors",
    "CustomFilter": "filters",
    "Detection": "types",
    "DeviceLostError": "errors",
    "EarlyVerdict": "filters",
    "Encoder": "encoders",
    "EncoderError": "errors",
    "Filter": "filters",
    "GanGenerator": "generators",
    "Guard": "guard",
    "GuardOutput": "types",
    "HashFilter": "filters",
    "ImageError": "errors",
    "InputError": "errors",
    "Ladder": "nudge.ladder",
    "Library": "library",
    "LibraryError": "errors",
    "MemorizationFilter": "filters",
    "ModelError": "errors",
    "NearestFilter": "filters",
    "NudityFilter": "filters",
    "Outcome": "types",
    "PipelineBusyError": "errors",
    "PixelFilter": "filters",
    "PromptFilter": "filters",
    "Protected": "protected",
    "RecordsError": "errors",
    "Report": "types",
    "SafetyCheckerFilter": "filters",
    "SteerclearError": "errors",
    "Strategy": "nudge.base",
    "TiledFilter": "filters",
    "UnsupportedError": "errors",
    "VaeGenerator": "generators",
    "WithheldError": "errors",
    "add": "library",
    "load_encoder": "encoders",
    "read_frames": "library",
    "read_image": "library",
    "strategies": "nudge.ladder",
}

__all__ = [*_HOMES, "__version__"]

if TYPE_CHECKING:
    from steerclear.code_guard import CodeGuard as CodeGuard
    from steerclear.encoders import Encoder as Encoder
    from steerclear.encoders import load_encoder as load_encoder
    from steerclear.errors import ConfigError as ConfigError
    from steerclear.errors import DeviceLostError as DeviceLostError
    from steerclear.errors import EncoderError as EncoderError
    from steerclear.errors import ImageError as ImageError
    from steerclear.errors import InputError as InputError
    from steerclear.errors import LibraryError as LibraryError
    from steerclear.errors import ModelError as ModelError
    from steerclear.errors import PipelineBusyError as PipelineBusyError
    from steerclear.errors import RecordsError as RecordsError
    from steerclear.errors import SteerclearError as SteerclearError
    from steerclear.errors import UnsupportedError as UnsupportedError
    from steerclear.errors import WithheldError as WithheldError
    from steerclear.filters import ClassifierFilter as ClassifierFilter
    from steerclear.filters import ConceptFilter as ConceptFilter
    from steerclear.filters import CustomFilter as CustomFilter
    from steerclear.filters import EarlyVerdict as EarlyVerdict
    from steerclear.filters import Filter as Filter
    from steerclear.filters import HashFilter as HashFilter
    from steerclear.filters import MemorizationFilter as MemorizationFilter
    from steerclear.filters import NearestFilter as NearestFilter
    from steerclear.filters import NudityFilter as NudityFilter
    from steerclear.filters import PixelFilter as PixelFilter
    from steerclear.filters import PromptFilter as PromptFilter
    from steerclear.filters import SafetyCheckerFilter as SafetyCheckerFilter
    from steerclear.filters import TiledFilter as TiledFilter
    from steerclear.filters.pixel import AllPictures as AllPictures
    from steerclear.generators import GanGenerator as GanGenerator
    from steerclear.generators import VaeGenerator as VaeGenerator
    from steerclear.guard import Guard as Guard
    from steerclear.library import Library as Library
    from steerclear.library import add as add
    from steerclear.library import read_frames as read_frames
    from steerclear.library import read_image as read_image
    from steerclear.nudge.base import Candidate as Candidate
    from steerclear.nudge.base import Strategy as Strategy
    from steerclear.nudge.ladder import Budget as Budget
    from steerclear.nudge.ladder import Ladder as Ladder
    from steerclear.nudge.ladder import strategies as strategies
    from steerclear.protected import Protected as Protected
    from steerclear.types import Attempt as Attempt
    from steerclear.types import Detection as Detection
    from steerclear.types import GuardOutput as GuardOutput
    from steerclear.types import Outcome as Outcome
    from steerclear.types import Report as Report


def __getattr__(name: str) -> Any:
    """Import a public name on first use: torch and diffusers take seconds, and `--help` should not."""
    if name not in _HOMES:
        raise AttributeError(f"module 'steerclear' has no attribute {name!r}")
    from steerclear._imports import collector_paused

    with collector_paused():
        return getattr(import_module(f"steerclear.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names, and what Python itself puts into a module."""
    return sorted({*globals(), *__all__})
