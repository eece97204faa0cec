"""The way of a request: generate, detect, nudge, verify, and hand out or withhold."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, get_args
from weakref import WeakKeyDictionary

import torch
from PIL import Image
from torch import Tensor

from steerclear import embedded
from steerclear._imports import collector_paused
from steerclear.encoders.base import Encoder
from steerclear.errors import ConfigError, UnsupportedError, WithheldError
from steerclear.filters.base import Filter, PassFilter, PromptsFilter, answers, flagged, judge
from steerclear.filters.early import EarlyVerdict
from steerclear.filters.library import AnyFilter
from steerclear.generators import LeaveEarly, Pass, PipelineRunner
from steerclear.library import Library, Policy
from steerclear.loading import guard_parts
from steerclear.nudge.base import Candidate, SteerTask
from steerclear.nudge.ladder import Budget, Ladder, strategies
from steerclear.nudge.prefer import PREFERENCES
from steerclear.nudge.space import LATENT, PREVIEW, EncoderSpace, check_judges
from steerclear.pipelines import load_pipeline
from steerclear.protected import Protected
from steerclear.request import checked_arguments, checked_prompts, of_row, picture_size, unread
from steerclear.settle import settle
from steerclear.steering.seeds import seeds_of
from steerclear.types import Detection, GuardOutput, Outcome, Report

OnWithheld = Literal["none", "raise", "placeholder"]

# for a pipeline that takes class labels: other classes first, of which most pass (docs/benchmarks/scalability.md), where the
# guard knows some; then what needs no text
WORDLESS_LADDER = (
    "rewrite",
    "rewrite",
    "rewrite",
    "trajectory",
    "shield",
    "final-latent",
    "resample",
    "resample",
)
PLACEHOLDER = (128, 128, 128)  # a plain grey picture

_queues: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_queues_guard = threading.Lock()


class GuardOptions(TypedDict, total=False):
    """What `Guard.from_pretrained` takes beside the model, for those who pass it on."""

    library: str | Path | Library | None
    filters: Sequence[AnyFilter | str]
    preferred: Sequence[str | Image.Image]
    alternatives: Sequence[str] | None
    ladder: Sequence[str] | Ladder | None
    budget: Budget | None
    early: bool | EarlyVerdict
    prefer: str
    encoder: Encoder | str | None
    policy: Policy | None
    on_withheld: OnWithheld
    torch_dtype: torch.dtype | None
    variant: str | None
    device: str | torch.device | None


@dataclass(frozen=True)
class _Row:
    """One requested image on its way."""

    prompt: str
    seed: int
    detections: tuple[Detection, ...]


class Guard:
    """Wraps a diffusers pipeline so that no flagged image is ever handed out.

    `Guard.wrap(pipe, library=…)` is the usual way in; this constructor takes the parts that it puts together. A guard is
    called as its pipeline is. Attributes that are not its own are the pipeline's, to read and to set: `guard.scheduler = …`,
    `guard.load_lora_weights(…)`, `guard.enable_model_cpu_offload()`. Thread-safe: callers queue.

    Args:
        pipe: any supported pipeline, already on its device; its own safety checker must be None, since it blackens images
            and hides its scores.
        filters: what decides; at least one must see pictures or passes.
        protected: the library's items, from which the nudge pushes away.
        preferred: texts and PIL images that pull.
        alternatives: texts of what the model draws well: where nothing is preferred, the nearest of them to the prompt
            pulls, if any is near.
        strict: further filters that a steered picture must pass as well, usually the same with stricter thresholds.
        ladder: strategies and budget.
        budget: in the place of the ladder's own.
        early: an early verdict, which may end a doomed pass.
        prefer: how what pulls is chosen, see `nudge.prefer`.
        encoder: in whose space those strategies steer whose `space` is not the latent; it must not be what every filter
            sees by.
        on_withheld: what stands for an image that is withheld: "none" for None, "placeholder" for a plain grey picture, or
            "raise" for a WithheldError once the whole call is through.

    Raises:
        ConfigError: for what cannot be guarded, and options that contradict one another.
        UnsupportedError: for a pipeline or scheduler that is not known to fit.
    """

    # what the guard itself remembers; every other attribute is the pipeline's
    _OWN = frozenset(
        ("runner", "filters", "pass_filters", "prompt_filters", "protected", "preferred", "alternatives", "strict", "ladder",
         "early", "prefer", "encoder", "on_withheld", "_encoded", "_encoded_for")
    )  # fmt: skip

    def __init__(
        self,
        pipe: Any,
        filters: Sequence[AnyFilter],
        *,
        protected: Protected | None = None,
        preferred: Sequence[str | Image.Image] = (),
        alternatives: Sequence[str] = (),
        strict: Sequence[Filter] = (),
        ladder: Ladder | None = None,
        budget: Budget | None = None,
        early: EarlyVerdict | None = None,
        prefer: str = "text",
        encoder: Encoder | None = None,
        on_withheld: OnWithheld = "none",
    ) -> None:
        self.filters = tuple(f for f in filters if isinstance(f, Filter))
        self.pass_filters = tuple(f for f in filters if isinstance(f, PassFilter))
        self.prompt_filters = tuple(f for f in filters if isinstance(f, PromptsFilter))
        blind = [f for f in filters if not isinstance(f, AnyFilter)]
        if blind:
            raise ConfigError(
                f"{blind[0]!r} is no filter: it needs a name, a threshold, and check, check_pass or check_prompts"
            )
        sightless = [f for f in strict if not isinstance(f, Filter)]
        if sightless:
            raise ConfigError(
                f"{sightless[0]!r} sees no picture; strict=[…] takes filters with a name, a threshold and check"
            )
        if not self.filters and not self.pass_filters:
            raise ConfigError(
                "a guard whose filters see no picture would wave everything through; pass filters=[…]"
            )
        if prefer not in PREFERENCES:
            raise ConfigError(f"prefer is {prefer!r}; there are {', '.join(PREFERENCES)}")
        if on_withheld not in get_args(OnWithheld):
            raise ConfigError(f"on_withheld is {on_withheld!r}; there are {', '.join(get_args(OnWithheld))}")
        self.runner = self._runner_for(pipe)
        self.protected = protected
        self.preferred = tuple(preferred)
        self._encoded: dict[Any, Tensor] = {}
        self._encoded_for = self.preferred
        self.alternatives = tuple(alternatives)
        self.strict = tuple(strict)
        self.ladder = ladder or (Ladder() if self.runner.prompted else Ladder(strategies(WORDLESS_LADDER)))
        if budget is not None:
            self.ladder = replace(self.ladder, budget=budget)
        self.early = early
        if self.preferred and protected is None and any(not isinstance(p, str) for p in self.preferred):
            raise ConfigError(
                "preferred pictures are encoded as the protected ones are; pass protected=… as well"
            )
        self.prefer = prefer
        self.encoder = encoder
        self.on_withheld = on_withheld
        if encoder is not None and any(getattr(r, "space", LATENT) != LATENT for r in self.ladder.rungs):
            check_judges(encoder, (*self.filters, *self.strict))

    @classmethod
    def wrap(
        cls,
        pipe: Any,
        library: str | Path | Library,
        *,
        filters: Sequence[AnyFilter | str] = (),
        preferred: Sequence[str | Image.Image] = (),
        alternatives: Sequence[str] | None = None,
        ladder: Sequence[str] | Ladder | None = None,
        budget: Budget | None = None,
        early: bool | EarlyVerdict = True,
        prefer: str = "text",
        encoder: Encoder | str | None = None,
        policy: Policy | None = None,
        on_withheld: OnWithheld = "none",
    ) -> Guard:
        """A guard around a pipeline that you have loaded.

        Args:
            pipe: any supported pipeline, already on its device and without its safety checker.
            library: the protected library, or the folder or address where it lies.
            filters: further filters beside those over the library: objects, registered names, or `module:object`.
            preferred: texts and PIL images that pull.
            alternatives: texts of what the model draws well; by default what the library's calibration found for this
                model.
            ladder: strategy names, or a Ladder.
            budget: what one flagged image may cost.
            early: whether the early verdict may end a doomed pass, where the library was calibrated for this very model;
                or a verdict of your own.
            prefer: how what pulls is chosen, see `nudge.prefer`.
            encoder: in whose space strategies steer that need one, itself or its name; by default the library's first.
            policy: "steer" or "withhold" for every item, in the place of what each item says.
            on_withheld: see `Guard`.

        Raises:
            LibraryError: if the library cannot be used.
            EncoderError: if an encoder that it was built with is missing.
            ConfigError: for an unknown filter or strategy, and options that contradict one another.
            UnsupportedError: for a pipeline or scheduler that is not known to fit.
        """
        return cls._of_parts(
            pipe, library, None, filters=filters, preferred=preferred, alternatives=alternatives, ladder=ladder,
            budget=budget, early=early, prefer=prefer, encoder=encoder, policy=policy, on_withheld=on_withheld,
        )  # fmt: skip

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        library: str | Path | Library | None = None,
        filters: Sequence[AnyFilter | str] = (),
        preferred: Sequence[str | Image.Image] = (),
        alternatives: Sequence[str] | None = None,
        ladder: Sequence[str] | Ladder | None = None,
        budget: Budget | None = None,
        early: bool | EarlyVerdict = True,
        prefer: str = "text",
        encoder: Encoder | str | None = None,
        policy: Policy | None = None,
        on_withheld: OnWithheld = "none",
        torch_dtype: torch.dtype | None = None,
        variant: str | None = None,
        device: str | torch.device | None = None,
        **loader_keywords: Any,
    ) -> Guard:
        """A guard around a model folder or hub id.

        Args:
            model: a folder that diffusers saved, or a hub id.
            library: as in `wrap`; by default the embedded one.
            filters: as in `wrap`, as are all others up to on_withheld.
            preferred: see `wrap`.
            alternatives: see `wrap`.
            ladder: see `wrap`.
            budget: see `wrap`.
            early: see `wrap`.
            prefer: see `wrap`.
            encoder: see `wrap`.
            policy: see `wrap`.
            on_withheld: see `Guard`.
            torch_dtype: of the weights; by default float32 on the CPU, and elsewhere as they are stored.
            variant: which files of the folder, such as "fp16".
            device: where the pipeline runs; by default the CPU.
            **loader_keywords: whatever else `DiffusionPipeline.from_pretrained` takes.

        Raises:
            ModelError: if the folder or id is no pipeline.
            SteerclearError: as `wrap`.
        """
        with collector_paused():
            pipe = load_pipeline(model, device, torch_dtype=torch_dtype, variant=variant, **loader_keywords)
            return cls._of_parts(
                pipe, embedded.LIBRARY_FOLDER if library is None else library, model, filters=filters, preferred=preferred,
                alternatives=alternatives, ladder=ladder, budget=budget, early=early, prefer=prefer, encoder=encoder,
                policy=policy, on_withheld=on_withheld,
            )  # fmt: skip

    @classmethod
    def default(cls, **options: Unpack[GuardOptions]) -> Guard:
        """The embedded model guarded by the embedded library.

        Args:
            **options: as of `from_pretrained`.
        """
        return cls.from_pretrained(embedded.MODEL_FOLDER, **options)

    @classmethod
    def _of_parts(
        cls, pipe: Any, library: str | Path | Library, model: str | Path | None, *, filters: Sequence[AnyFilter | str],
        preferred: Sequence[str | Image.Image], alternatives: Sequence[str] | None, ladder: Sequence[str] | Ladder | None,
        budget: Budget | None, early: bool | EarlyVerdict, prefer: str, encoder: Encoder | str | None, policy: Policy | None,
        on_withheld: OnWithheld,
    ) -> Guard:  # fmt: skip
        check_no_safety_checker(pipe)
        parts = guard_parts(
            pipe, library, model=model, filters=filters, alternatives=alternatives, ladder=ladder, early=early,
            encoder=encoder, policy=policy,
        )  # fmt: skip
        return cls(
            pipe, parts.filters, protected=parts.protected, preferred=preferred, alternatives=parts.alternatives,
            strict=parts.strict, ladder=parts.ladder, budget=budget, early=parts.early, prefer=prefer,
            encoder=parts.encoder, on_withheld=on_withheld,
        )  # fmt: skip

    # ── a drop-in for its pipeline ────────────────────────────────────────────────────────────────────────────────

    @property
    def pipe(self) -> Any:
        """The pipeline itself: what it makes when it is called directly is not guarded."""
        return self.runner.pipe

    def to(self, *args: Any, **kwargs: Any) -> Guard:
        """Move the pipeline, as its own `to` does, and return the guard."""
        self.pipe.to(*args, **kwargs)
        return self

    def __getattr__(self, name: str) -> Any:
        if name in Guard._OWN or name.startswith("__"):  # not set yet, as while a guard is copied
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            return getattr(self.pipe, name)
        except AttributeError:
            raise AttributeError(
                f"neither the guard nor its {type(self.pipe).__name__} has an attribute {name!r}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in Guard._OWN or name in type(self).__dict__:
            object.__setattr__(self, name, value)
            return
        before = getattr(self.pipe, name, None)
        setattr(self.pipe, name, value)
        try:
            # a new scheduler, network or text encoder: checked as at the beginning, and nothing remembered of the old
            self.runner = self._runner_for(self.pipe)
        except Exception:
            setattr(self.pipe, name, before)
            raise

    def _runner_for(self, pipe: Any) -> PipelineRunner:
        check_no_safety_checker(pipe)
        return PipelineRunner(pipe, max((f.steps for f in self.pass_filters), default=0))

    def _queue(self) -> Any:
        """One lock per scheduler, which carries the state, however many guards share it."""
        with _queues_guard:
            return _queues.setdefault(self.pipe.scheduler, threading.RLock())

    # ── the way of a request ──────────────────────────────────────────────────────────────────────────────────────

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | list[torch.Generator] | None = None,
        budget: Budget | None = None,
        **kwargs: Any,
    ) -> GuardOutput:
        """Generate and hand out only what passes.

        An image that no filter flags is bit-identical to the plain pipeline's.

        Args:
            prompt: goes to the pipeline untouched, as num_images_per_prompt, generator and all other keyword arguments do.
                A pipeline that takes class labels is given `class_labels=[…]` and no prompt: prompt filters see nothing of
                it.
            num_images_per_prompt: how many images of each prompt.
            generator: of the noise; with None the guard draws its own, so that the report's seed makes the picture again.
            budget: of each flagged image of this call, in the place of the ladder's.
            **kwargs: the pipeline's own arguments.

        Returns:
            Images and reports, one each per requested image, prompt by prompt.

        Raises:
            InputError: for an empty or overlong prompt, a step count below 1, and arguments that a guard cannot honour or
                the pipeline does not know.
            WithheldError: if an image was withheld and `on_withheld` is "raise".
        """
        prompts = checked_prompts(self.pipe, prompt, kwargs)
        if generator is None:
            generator = torch.Generator().manual_seed(secrets.randbits(63))
        plain = checked_arguments(
            self.pipe, kwargs, images=num_images_per_prompt, prompts=len(prompts), generator=generator
        )
        if prompt is not None:
            plain["prompt"] = prompt if isinstance(prompt, str) else prompts
        with self._queue():
            output = self._guarded(prompts, num_images_per_prompt, generator, plain, kwargs, budget)
        withheld = [report for report in output.reports if report.outcome is Outcome.WITHHELD]
        if withheld and self.on_withheld == "raise":
            raise WithheldError(
                f"{len(withheld)} of {len(output.reports)} images are withheld: {withheld[0].reason}; the others are in "
                "error.output",
                output,
            )
        return output

    def check(self, images: Sequence[Image.Image]) -> list[tuple[Detection, ...]]:
        """The picture filters' detections on finished images, one tuple per image."""
        return judge(self.filters, images)

    def _guarded(
        self, prompts: list[str], num_images: int, generator: torch.Generator | list[torch.Generator], plain: dict[str, Any],
        kwargs: dict[str, Any], budget: Budget | None,
    ) -> GuardOutput:  # fmt: skip
        began = time.monotonic()
        seeds = seeds_of(generator, len(prompts) * num_images)
        known = [row for row in self._check_prompts(prompts) for _ in range(num_images)]
        first, detections = self._first_pass(plain, known)
        # image-to-image does only a part of the scheduler's steps, which the pipeline knows
        running = getattr(self.pipe, "decoder_pipe", self.pipe)
        steps = getattr(running, "_num_timesteps", None) or len(self.pipe.scheduler.timesteps)
        whole = first.nfe_prior + (first.nfe - first.nfe_prior) * steps / max(1, first.steps)
        plain_nfe = first.nfe if first.images else whole
        shared = (time.monotonic() - began) / len(detections)
        rows = [_Row(prompts[i // num_images], seeds[i], row) for i, row in enumerate(detections)]
        images: list[Image.Image | None] = []
        reports = []
        for i, row in enumerate(rows):
            own = of_row(kwargs, i // num_images, len(prompts))
            image, report = self._settle(i, row, first, plain_nfe, own, budget)
            images.append(image)
            cut = unread(self.pipe, row.prompt, own) if self.runner.prompted else None
            reports.append(replace(report, seconds=report.seconds + shared, unread=cut))
        if self.on_withheld == "placeholder" and None in images:
            size = self._size(first, plain)
            images = [Image.new("RGB", size, PLACEHOLDER) if image is None else image for image in images]
        return GuardOutput(images, reports)

    def _size(self, first: Pass, plain: dict[str, Any]) -> tuple[int, int]:
        """(width, height) of the pictures of this call."""
        if first.images:
            return first.images[0].size
        if (size := picture_size(plain)) is not None:
            return size[::-1]
        if self.protected is not None and first.denoised is not None:
            return self.protected.decode(first.denoised[:1])[0].size
        return (512, 512)

    def _check_prompts(self, prompts: list[str]) -> list[tuple[Detection, ...]]:
        """The prompt filters' detections, one tuple per prompt; there are none of class labels."""
        if not self.runner.prompted:
            return [()] * len(prompts)
        columns = [answers(f, partial(f.check_prompts, prompts), len(prompts)) for f in self.prompt_filters]
        return [tuple(column[i] for column in columns) for i in range(len(prompts))]

    def _first_pass(
        self, plain: dict[str, Any], known: list[tuple[Detection, ...]]
    ) -> tuple[Pass, list[tuple[Detection, ...]]]:
        """The plain pipeline, watched, and what decides on each image.

        It is left as soon as every image in it is known to be flagged: by its prompt, by how the pass goes, or early.
        """
        early = self.early if self.early and self.early.applies(self.pipe.scheduler, plain) else None
        detections, early_detections = known, list[tuple[Detection, ...]]()

        def watch(running: Pass) -> None:
            nonlocal detections, early_detections
            assert running.denoised is not None
            if early is not None and running.steps == early.step + 1:
                early_detections = [(d,) for d in early.look(running.denoised)]
            if self.pass_filters and running.steps == self.runner.traced:
                detections = _joined(detections, self._check_pass(running, len(detections)))
            if all(any(d.flagged for d in row) for row in _joined(detections, early_detections)):
                raise LeaveEarly

        first = self.runner.run(on_pass=watch, **plain)
        if first.images:
            if self.pass_filters and first.steps < self.runner.traced:
                detections = _joined(detections, self._check_pass(first, len(detections)))
            # where the picture was finished, it decides, and not what it looked like early
            return first, _with_finite(first, judge(self.filters, first.images, detections))
        assert first.denoised is not None
        previews = self.protected.decode(first.denoised, picture_size(plain)) if self.protected else []
        return first, _joined(_joined(detections, early_detections), judge(self.filters, previews))

    def _check_pass(self, run: Pass, count: int) -> list[tuple[Detection, ...]]:
        """The pass filters' detections on `count` images."""
        columns = [
            answers(f, partial(f.check_pass, run.magnitudes, run.resumed, count), count)
            for f in self.pass_filters
        ]
        return list(zip(*columns, strict=True))

    def _settle(
        self, i: int, row: _Row, first: Pass, plain_nfe: float, kwargs: dict[str, Any], budget: Budget | None
    ) -> tuple[Image.Image | None, Report]:
        """Hand out, or climb the ladder for, one image of the first pass."""
        report = Report(
            row.prompt, row.seed, Outcome.CLEAR, row.detections, nfe=first.nfe, nfe_plain=plain_nfe
        )

        def verify(candidate: Candidate) -> tuple[Detection, ...]:
            known = self._check_pass(candidate.run, 1) if self.pass_filters else None
            return _with_finite(
                candidate.run, judge((*self.filters, *self.strict), [candidate.image], known)
            )[0]

        def learn(task: SteerTask, detections: tuple[Detection, ...]) -> None:
            task.unwanted = self._unwanted(detections, task.unwanted, picture_size(kwargs))

        return settle(
            report,
            image=first.images[i] if first.images else None,
            withhold=self.protected.withhold if self.protected else (),
            ladder=self.ladder if budget is None else replace(self.ladder, budget=budget),
            prepare=lambda: self._task(i, row, first, kwargs),
            verify=verify,
            learn=learn,
        )

    def _task(self, i: int, row: _Row, first: Pass, kwargs: dict[str, Any]) -> SteerTask:
        start = first.start
        clean = first.latents if first.latents is not None else first.denoised
        assert start is not None
        assert clean is not None
        clean = clean[i : i + 1].to(start)
        size = picture_size(kwargs)

        def passes(latent: Tensor) -> bool:
            assert self.protected is not None
            return not flagged(judge((*self.filters, *self.strict), self.protected.decode(latent, size))[0])

        return SteerTask(
            runner=self.runner,
            prompt=row.prompt,
            seed=row.seed,
            kwargs=kwargs,
            start=start[i : i + 1],
            clean=clean,
            unwanted=self._unwanted(row.detections, clean[:0], size, fallback=clean),
            preferred_texts=tuple(p for p in self.preferred if isinstance(p, str)),
            alternatives=self.alternatives,
            captions=self.protected.captions(matched_items(row.detections)) if self.protected else (),
            preferred_latents=self._preferred_latents(clean, size),
            passes=passes if self.protected else None,
            spaces=partial(self._space, size),
            prefer=self.prefer,
        )

    def _space(self, size: tuple[int, int] | None, name: str) -> EncoderSpace:
        """E of the objective. Raises ConfigError where the encoder is the only judge, UnsupportedError where there is none."""
        if self.encoder is None or self.protected is None:
            raise UnsupportedError(
                f"steering in the space of a {name} needs Guard(…, encoder=…, protected=…)"
            )
        check_judges(self.encoder, (*self.filters, *self.strict))
        look = self.protected.preview if name == PREVIEW else self.protected.pixels
        return EncoderSpace(self.encoder, partial(look, size=size))

    def _preferred_latents(self, like: Tensor, size: tuple[int, int] | None) -> Tensor | None:
        """(D, …) latents of the preferred pictures, encoded once for each shape."""
        pictures = [p for p in self.preferred if not isinstance(p, str)]
        if not pictures or self.protected is None:
            return None
        if self._encoded_for is not self.preferred:
            self._encoded, self._encoded_for = {}, self.preferred
        key = (like.shape[1:], size)
        if key not in self._encoded:
            self._encoded[key] = self.protected.encode(pictures, like, size)
        return self._encoded[key]

    def _unwanted(
        self,
        detections: Sequence[Detection],
        known: Tensor,
        size: tuple[int, int] | None,
        fallback: Tensor | None = None,
    ) -> Tensor:
        """Latents of what the flagged detections matched, added to what is known; else the flagged latent itself."""
        ids = matched_items(detections)
        like = known if fallback is None else fallback
        new = self.protected.latents(ids, like, size) if self.protected and ids else None
        if new is not None and len(new):
            grown: Tensor = torch.unique(torch.cat([known, new.to(known)]), dim=0)
            return grown
        return known if len(known) or fallback is None else fallback


def check_no_safety_checker(pipe: Any) -> None:
    """Raises ConfigError for a pipeline that would blacken its pictures before any filter sees them."""
    if getattr(pipe, "safety_checker", None) is not None:
        raise ConfigError(
            "this pipeline's safety_checker blackens images; set pipe.safety_checker = None and pass a filter"
        )


def matched_items(detections: Sequence[Detection]) -> list[str]:
    """The items that flagged detections name, each once."""
    return list(dict.fromkeys(d.matched for d in detections if d.flagged and d.matched))


def _joined(
    detections: list[tuple[Detection, ...]], more: list[tuple[Detection, ...]]
) -> list[tuple[Detection, ...]]:
    """Both lists of detections row by row; without more, the first alone."""
    return [(*a, *b) for a, b in zip(detections, more, strict=True)] if more else detections


def _with_finite(run: Pass, detections: list[tuple[Detection, ...]]) -> list[tuple[Detection, ...]]:
    """The detections, and one that flags each image whose latent or pixels are not numbers: a filter sees it black."""
    why = "the latent or the decoded pixels are not finite"
    broken = Detection("finite", True, math.nan, 0.0, error=why)
    return [row if ok else (*row, broken) for row, ok in zip(detections, run.finite, strict=True)]
