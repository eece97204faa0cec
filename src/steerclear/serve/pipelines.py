"""The guards of one worker: of the model itself, and of the same model as it edits pictures."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image

from steerclear.embedded import is_embedded_library
from steerclear.errors import InputError, LibraryError, UnsupportedError
from steerclear.filters.base import PromptsFilter, answers
from steerclear.generators.accepted import call_parameters
from steerclear.guard import Guard
from steerclear.library import Library, ingest
from steerclear.library.images import square_tensor
from steerclear.library.sources import Source
from steerclear.loading import open_encoders
from steerclear.nudge.ladder import Budget
from steerclear.pipelines import native_size
from steerclear.serve.jobs import (
    Abilities,
    Add,
    Check,
    CheckTexts,
    Made,
    MakePictures,
    PictureSettings,
    Progress,
    Search,
)
from steerclear.serve.settings import ServeSettings
from steerclear.steering.seeds import derive, generators
from steerclear.types import Detection, Report

SIDE = 256  # pixels of the longer side of what is kept of a flagged picture
TRIED_PROMPTS = ("a cat", "a red apple", "a house by a lake", "a bird in a tree")
TRIED_STEPS = 2  # of the pictures by which a batch is compared with single ones


class ServedGuards:
    """A guarded model, and what a worker does with it.

    Args:
        settings: of the server.
        device: where the model runs.

    Raises:
        SteerclearError: for whatever cannot be loaded.
    """

    def __init__(self, settings: ServeSettings, device: str) -> None:
        self._settings = settings
        self._options: dict[str, Any] = {
            "filters": settings.filters,
            "ladder": settings.ladder or None,
            "budget": Budget(settings.budget),
            "encoder": settings.encoder or None,
        }
        library = Library.open(settings.library)
        self._guard = Guard.from_pretrained(
            settings.model,
            library=library,
            torch_dtype=settings.dtype or None,
            variant=settings.variant or None,
            device=device,
            **self._options,
        )
        self._guard.pipe.set_progress_bar_config(disable=True)
        self._library = library
        self._edits: dict[str, Guard] = {}  # by the task: made when they are first asked for
        self._edit_pipes: dict[str, Any] = {}
        self._encoders: list[Any] = []

    # ── what it can do ──────────────────────────────────────────────────────────────────────────────────────

    def abilities(self) -> Abilities:
        """What this model can do, read from its pipeline."""
        pipe = self._guard.pipe
        width, height = native_size(pipe, "width"), native_size(pipe, "height")
        return Abilities(
            size=(width, height) if width and height else None,
            multiple=max(8, int(getattr(pipe, "vae_scale_factor", 8) or 8)),
            image_to_image=self._edit_pipe("Image2Image") is not None,
            inpainting=self._edit_pipe("Inpainting") is not None,
            prompt_filters=tuple(f.name for f in self._guard.prompt_filters),
            picture_filters=tuple(f.name for f in self._guard.filters),
            library_writable=not is_embedded_library(self._library.uri),
            batch_identical=self._batch_is_identical() if self._settings.batch > 1 else None,
        )

    def _batch_is_identical(self) -> bool:
        """Whether a few steps give the same latents for what is made together and for each alone.

        That they are the same for what is tried here proves nothing for other sizes and steps; where they
        differ, batches do.
        """
        alone = [self._tried([seed])[0] for seed in range(self._settings.batch)]
        return any(row.ndim for row in alone) and all(
            all(torch.equal(a, b) for a, b in zip(self._tried(range(size)), alone, strict=False))
            for size in range(2, self._settings.batch + 1)
        )

    def _tried(self, seeds: Sequence[int]) -> list[torch.Tensor]:
        """What a pipeline makes of some seeds in one call, in floating point where it can give that."""
        arguments = {
            **self._arguments(self._guard, PictureSettings(steps=TRIED_STEPS), len(seeds)),
            "prompt": [TRIED_PROMPTS[seed % len(TRIED_PROMPTS)] for seed in seeds],
            "generator": generators(seeds),
            "budget": Budget(overhead=0),
        }
        if self._settings.guidance is not None:
            arguments["guidance_scale"] = self._settings.guidance
        try:
            produced = self._guard(**arguments, output_type="latent").images
        except (InputError, UnsupportedError):  # a pipeline that does not show what it decodes
            produced = self._guard(**arguments, output_type="pt").images
        # what is flagged is not compared
        return [torch.zeros(()) if row is None else row for row in produced]

    # ── pictures ────────────────────────────────────────────────────────────────────────────────────────────

    def make(
        self,
        jobs: Sequence[MakePictures],
        cancelled: Sequence[Callable[[], bool]],
        on_progress: Callable[[int, Progress], None],
    ) -> list[Made]:
        """The pictures of requests with equal settings, in one call.

        Args:
            jobs: the requests.
            cancelled: for each whether its client no longer waits, asked at each step.
            on_progress: called with the index of a job and how far it is.

        Raises:
            InputError: for what the pipeline cannot do.
            DeviceLostError: where the device no longer answers.
        """
        settings = jobs[0].settings
        guard = self._guard_for(settings)
        owners = [i for i, job in enumerate(jobs) for _ in range(job.count)]
        active: set[int] = set()  # the jobs that the present step is for

        def asked(i: int) -> bool:
            active.add(i)
            return cancelled[i]()

        def stepped(pipe: Any, step: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            # a guard takes no step of its own choice as progress: `predict` is not told
            steps = int(getattr(pipe, "num_timesteps", 0) or settings.steps)
            for i in active:
                on_progress(i, Progress(step + 1, steps, values.get("attempt")))
            active.clear()
            return {}

        budgets = [Budget(self._settings.budget, cancelled=_asking(asked, i)) for i in owners]
        drawing = generators([seed for job in jobs for seed in _seeds(job)])
        several = len(owners) > 1
        arguments = self._arguments(guard, settings, len(owners))
        if "callback_on_step_end" in call_parameters(guard.pipe):
            arguments["callback_on_step_end"] = stepped
        flagged: dict[int, Image.Image] = {}

        def keep(i: int, picture: Image.Image | None, report: Report) -> None:
            if picture is not None:
                picture.thumbnail((SIDE, SIDE))
                flagged[i] = picture

        began = time.perf_counter()
        before, guard.preferred = guard.preferred, settings.prefer or guard.preferred
        try:
            output = guard(
                [jobs[i].prompt for i in owners] if several else jobs[0].prompt,
                generator=drawing if several else drawing[0],
                budget=budgets,
                on_flagged=keep if self._settings.keep_thumbnails else None,
                **arguments,
            )
        finally:
            guard.preferred = before
        seconds = time.perf_counter() - began
        produced = [Made([], reports=[], flagged={}, seconds=seconds) for _ in jobs]
        for number, (i, image, report) in enumerate(zip(owners, output.images, output.reports, strict=True)):
            if number in flagged:
                produced[i].flagged[len(produced[i].images)] = flagged[number]
            produced[i].images.append(image)
            produced[i].reports.append(report)
        return produced

    def _arguments(self, guard: Guard, settings: PictureSettings, images: int) -> dict[str, Any]:
        """The arguments of a call beside prompts and generators."""
        arguments: dict[str, Any] = {"num_inference_steps": settings.steps}
        if settings.guidance is not None:
            arguments["guidance_scale"] = settings.guidance
        if settings.negative_prompt:
            several = [settings.negative_prompt] * images
            arguments["negative_prompt"] = several if images > 1 else settings.negative_prompt
        if settings.image is None:
            if settings.size is not None:
                arguments["width"], arguments["height"] = settings.size
            return arguments
        size = settings.size or self._size_for(settings.image)
        picture = settings.image.resize(size, Image.Resampling.LANCZOS)
        arguments["image"] = [picture] * images if images > 1 else picture
        if settings.mask is not None:
            mask = settings.mask.resize(size, Image.Resampling.NEAREST)
            arguments["mask_image"] = [mask] * images if images > 1 else mask
        if "strength" in call_parameters(guard.pipe) and settings.strength is not None:
            arguments["strength"] = settings.strength
        if "height" in call_parameters(guard.pipe):
            arguments["width"], arguments["height"] = size
        return arguments

    def _size_for(self, image: Image.Image) -> tuple[int, int]:
        """The given picture's shape with about as many pixels as the model makes by default."""
        pipe = self._guard.pipe
        width, height = native_size(pipe, "width"), native_size(pipe, "height")
        scale = math.sqrt(width * height / (image.width * image.height)) if width and height else 1.0
        multiple = max(8, int(getattr(pipe, "vae_scale_factor", 8) or 8))
        sides = [max(multiple, round(side * scale / multiple) * multiple) for side in image.size]
        return sides[0], sides[1]

    def _guard_for(self, settings: PictureSettings) -> Guard:
        """The guard of the model as this request needs it; networks are shared by all of them."""
        if settings.image is None:
            return self._guard
        task = "Image2Image" if settings.mask is None else "Inpainting"
        if task not in self._edits:
            pipe = self._edit_pipe(task)
            if pipe is None:
                what = "edits no pictures" if task == "Image2Image" else "takes no mask"
                raise InputError(f"the model's {type(self._guard.pipe).__name__} {what}; generate instead")
            pipe.set_progress_bar_config(disable=True)
            self._edits[task] = Guard.wrap(pipe, self._library, model=self._settings.model, **self._options)
        return self._edits[task]

    def _edit_pipe(self, task: str) -> Any | None:
        """A pipeline of the same networks that does a task; None where diffusers has none for this family."""
        import diffusers

        if task not in self._edit_pipes:
            pipe = self._guard.pipe
            takes = call_parameters(pipe)
            if "image" in takes and ("mask_image" in takes) == (task == "Inpainting"):
                self._edit_pipes[task] = pipe
            else:
                auto = getattr(diffusers, f"AutoPipelineFor{task}")
                try:
                    self._edit_pipes[task] = auto.from_pipe(pipe)
                except ValueError:  # of a family without one
                    self._edit_pipes[task] = None
        return self._edit_pipes[task]

    # ── looks ───────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, asked: Check) -> list[tuple[Detection, ...]]:
        """What the picture filters say of pictures."""
        return [self._guard.check([image])[0] for image in asked.images]

    def check_texts(self, asked: CheckTexts) -> list[tuple[Detection, ...]]:
        """What the prompt filters say of texts."""
        filters = self._guard.prompt_filters
        # one by one: a filter that fails at a text has failed at that text alone
        return [tuple(_read(f, text) for f in filters) for text in asked.texts]

    def search(self, asked: Search) -> list[tuple[str, float]]:
        """The ids and cosines of the protected pictures most like one, by the library's first encoder."""
        encoder = self._opened_encoders()[0]
        with torch.no_grad():
            query = encoder(
                square_tensor(asked.image, encoder.size)[None].to(self._guard.pipe._execution_device)
            )
        index = self._library.index(encoder.name)
        matches: list[tuple[str, float]] = index.matches(query.float().cpu(), asked.count)[0]
        return matches

    def add(self, asked: Add) -> ingest.IngestReport:
        """Add pictures to the library.

        Raises:
            InputError: for a library that is never written to.
        """
        if is_embedded_library(self._library.uri):
            raise InputError(
                "the embedded library is never changed; start the server with --library and one of your own"
            )
        sources = [Source(name, _reader(raw)) for name, raw in asked.files]
        return ingest.add(self._library, sources, self._opened_encoders(), workers=1, **asked.notes)

    def _opened_encoders(self) -> list[Any]:
        if not self._encoders:
            followed = self._guard._followed
            if followed is None:
                raise LibraryError("the guard follows no library")
            self._encoders = list(followed.parts.encoders) or open_encoders(self._library)
        return self._encoders


def quiet() -> None:
    """Keep progress bars and hints of diffusers and transformers out of the server's log."""
    from diffusers.utils import logging as diffusers_logging
    from tqdm import tqdm
    from transformers.utils import logging as transformers_logging

    # its own one is shared between processes, and would outlive this one
    tqdm.set_lock(threading.RLock())
    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


def _seeds(job: MakePictures) -> list[int]:
    """A seed for each picture, as `steerclear generate --images-per-prompt` has them."""
    return [job.seed, *(derive(job.seed, "image", i) for i in range(1, job.count))]


def _asking(asked: Callable[[int], bool], i: int) -> Callable[[], bool]:
    return lambda: asked(i)


def _read(filter_: PromptsFilter, text: str) -> Detection:
    return answers(filter_, lambda: filter_.check_prompts([text]), 1)[0]


def _reader(raw: bytes) -> Callable[[], bytes]:
    return lambda: raw
