"""The exception tree: every error names the thing, the value and the way out.

SteerclearError
├── InputError          a prompt, seed, step count, file or folder that cannot be used
│   ├── ModelError      a model folder or id that is no usable pipeline
│   └── ImageError      an image that cannot be read
├── LibraryError        a protected library that is missing, damaged, foreign or of another encoder
├── RecordsError        the database of keys and incidents: missing, out of date, damaged or refusing
├── EncoderError        an encoder that is missing, or whose output cannot be used
├── UnsupportedError    a scheduler, pipeline family or combination that is refused by name
├── PipelineBusyError   a pipeline that is already being steered by another caller
├── DeviceLostError     a GPU that no longer answers; the process must be restarted
├── WithheldError       an image that was withheld, where the guard was told to raise
└── ConfigError         options that contradict one another
"""

from __future__ import annotations

from typing import Any


class SteerclearError(Exception):
    """Base of every error that steerclear raises on purpose."""


class InputError(SteerclearError, ValueError):
    """A prompt, seed, step count, file or folder that cannot be used as given."""


class ModelError(InputError):
    """A model folder or id that cannot be loaded as a diffusers pipeline."""


class ImageError(InputError):
    """An image that cannot be read or decoded."""


class LibraryError(SteerclearError):
    """A protected library that is missing, damaged, foreign or built with another encoder."""


class RecordsError(SteerclearError):
    """The database of keys and incidents: missing, out of date, damaged, or it refuses what was asked."""


class EncoderError(SteerclearError):
    """An encoder that is missing, or whose embedding cannot be used (not finite, wrong width)."""


class UnsupportedError(SteerclearError, NotImplementedError):
    """A scheduler, pipeline or combination that steerclear refuses rather than guesses."""


class PipelineBusyError(SteerclearError, RuntimeError):
    """A pipeline that another call is steering: a scheduler carries state, so one caller at a time."""


class DeviceLostError(SteerclearError, RuntimeError):
    """A GPU that no longer answers after an error of its own: every later call in this process fails.

    Nothing is handed out. A server should end this process and start another one.
    """


class WithheldError(SteerclearError):
    """At least one image of a call was withheld, and the guard's `on_withheld` is "raise".

    Attributes:
        output: the call's `GuardOutput`; the images that passed are in it.
    """

    def __init__(self, message: str, output: Any) -> None:
        super().__init__(message)
        self.output = output


class ConfigError(SteerclearError, ValueError):
    """Options that contradict one another or leave a guard without a usable filter."""
