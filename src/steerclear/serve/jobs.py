"""What goes to a worker and what comes back: plain values that can be sent to another process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from PIL import Image

    from steerclear.types import Report

# a worker makes pictures one call after the other, and looks at pictures beside that
Lane = Literal["pictures", "looks"]
LANES: tuple[Lane, ...] = ("pictures", "looks")


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """Everything but prompt and seed. Requests with equal settings may be made in one call.

    Attributes:
        steps: denoising steps.
        guidance: guidance scale; None for the pipeline's own.
        size: width and height in pixels; None for the model's own, or for an edit the given picture's shape.
        negative_prompt: what no picture should show.
        prefer: texts and pictures that pull; none for the guard's own choice.
        image: the picture to begin from; None for pure noise.
        mask: white where the picture is to be painted anew, of the same size; None for everywhere.
        strength: how much of the picture is made anew, in (0, 1].
    """

    steps: int
    guidance: float | None = None
    size: tuple[int, int] | None = None
    negative_prompt: str = ""
    prefer: tuple[str | Image.Image, ...] = ()
    image: Image.Image | None = None
    mask: Image.Image | None = None
    strength: float | None = None


@dataclass(frozen=True, kw_only=True)
class MakePictures:
    """One request for pictures.

    Attributes:
        prompt: what they should show.
        seed: of the first one's noise; those of the others follow from it.
        count: how many.
        settings: of the call.
    """

    prompt: str
    seed: int
    count: int
    settings: PictureSettings


@dataclass(frozen=True, kw_only=True)
class Check:
    """Pictures that the guard's filters are to look at."""

    images: tuple[Image.Image, ...]


@dataclass(frozen=True, kw_only=True)
class CheckTexts:
    """Texts that the guard's prompt filters are to look at."""

    texts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Search:
    """A picture whose nearest protected ones are wanted."""

    image: Image.Image
    count: int


@dataclass(frozen=True, kw_only=True)
class Add:
    """Pictures for the library: (name, bytes of the file), and what is known of all of them."""

    files: tuple[tuple[str, bytes], ...]
    notes: dict[str, Any]


Request = MakePictures | Check | CheckTexts | Search | Add


@dataclass(frozen=True)
class Made:
    """What became of one request.

    Attributes:
        images: one each; None for what is withheld.
        reports: one each.
        flagged: small pictures of what was flagged, by number, where the server keeps such.
        seconds: that the guard's call took, which other requests may have shared.
    """

    images: list[Image.Image | None]
    reports: list[Report]
    flagged: dict[int, Image.Image]
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Why a worker has no result.

    Attributes:
        kind: "input", "image", "library", "memory" or "internal".
        message: names the thing, the value and the way out.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Progress:
    """How far a request is.

    Attributes:
        step: steps of the present run that are done.
        steps: steps of that run.
        attempt: the strategy that is being tried; None in the first run.
    """

    step: int
    steps: int
    attempt: str | None = None


@dataclass(frozen=True)
class Abilities:
    """What a worker says when it is ready.

    Attributes:
        size: width and height that the model makes by default; None where it does not say.
        multiple: what width and height must be divisible by.
        image_to_image: whether pictures can be edited.
        inpainting: whether a mask can be given.
        prompt_filters: names of the filters that see prompts.
        picture_filters: names of those that see pictures.
        library_writable: whether pictures can be added.
        batch_identical: whether a few pictures were the same to the bit in a batch and alone; None if not
            tried.
    """

    size: tuple[int, int] | None
    multiple: int
    image_to_image: bool
    inpainting: bool
    prompt_filters: tuple[str, ...]
    picture_filters: tuple[str, ...]
    library_writable: bool
    batch_identical: bool | None = None


@dataclass(eq=False)
class Job:
    """One request on its way through the server.

    Attributes:
        id: of the request, which a client may have chosen.
        owner: id of the key that sent it.
        request: what the worker is sent.
        on_progress: called with each Progress; None where nobody asks.
        result: what became of it.
        entered: when it came, in seconds of the monotonic clock.
        begun: when a worker took it; None while it waits.
        on_abandoned: called in a thread with what was made of it where nobody waits any more.
        number: its own in this process: an id may come again while a worker still leaves the last one of it.
    """

    id: str
    owner: str
    request: Request
    on_progress: Callable[[Progress], None] | None = None
    result: asyncio.Future[Any] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    entered: float = field(default_factory=time.monotonic)
    begun: float | None = None
    on_abandoned: Callable[[Made], None] | None = None
    number: int = field(default_factory=count().__next__)

    @property
    def lane(self) -> Lane:
        """Which of a worker's two threads it goes to."""
        return "pictures" if isinstance(self.request, MakePictures) else "looks"

    @property
    def pictures(self) -> int:
        """How many pictures it makes."""
        return self.request.count if isinstance(self.request, MakePictures) else 0

    def fits(self, other: Job) -> bool:
        """Whether both may be made in one call."""
        ours, theirs = self.request, other.request
        if not isinstance(ours, MakePictures) or not isinstance(theirs, MakePictures):
            return False
        # a picture to begin from would be taken for a list with one for each prompt
        return ours.settings.image is None and ours.settings == theirs.settings
