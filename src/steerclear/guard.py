"""The guard around a pipeline: how it is made, its options, and its call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import torch
from PIL import Image
from torch import Tensor

from steerclear import embedded
from steerclear._imports import collector_paused
from steerclear.devices import raising_if_lost
from steerclear.drop_in import DropIn
from steerclear.encoders.base import Encoder
from steerclear.errors import ConfigError, InputError, WithheldError
from steerclear.filters.base import Filter, PassFilter, PromptsFilter, judge
from steerclear.filters.early import EarlyVerdict
from steerclear.filters.library import AnyFilter
from steerclear.filters.rolled_out import RolledOut
from steerclear.following import FollowedLibrary, renewed
from steerclear.generators import PipelineRunner
from steerclear.generators.accepted import output_fields, refuse_modular
from steerclear.generators.conditions import runs_unguided
from steerclear.guard_options import (
    GuardOptions,
    OnWithheld,
    check_budgets,
    check_filters,
    check_images,
    check_misspelt,
    check_no_safety_checker,
    check_on_withheld,
    check_options,
)
from steerclear.guarded_call import GuardedCall, OnFlagged
from steerclear.judges import Judges
from steerclear.library import Library, Policy
from steerclear.loading import guard_parts
from steerclear.nudge.base import OrdinaryPrompts, Rewriter
from steerclear.nudge.ladder import Budget, Ladder, strategies
from steerclear.nudge.space import LATENT, check_judges
from steerclear.pipelines import load_pipeline
from steerclear.protected import Protected
from steerclear.request import Request, checked_request
from steerclear.steer_tasks import SteerTasks
from steerclear.types import Detection, GuardOutput, Outcome

# The ladder for pipelines that take class labels. First other classes, most of which pass
# (docs/benchmarks/scalability.md), if the guard knows any; then strategies that need no text.
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

# the attributes that hold a guard's filters, by their protocol
_FILTERS: Mapping[type, str] = {
    Filter: "filters",
    PassFilter: "pass_filters",
    PromptsFilter: "prompt_filters",
}


class Guard(DropIn):
    """Wraps a diffusers pipeline so that no flagged image is ever handed out.

    `Guard.wrap(pipe, library=…)` is the usual way in; this constructor takes the parts that it puts together.
    A guard is called as its pipeline is. Attributes that are not its own are the pipeline's, to read and to
    set: `guard.scheduler = …`, `guard.load_lora_weights(…)`, `guard.enable_model_cpu_offload()`. Thread-safe:
    callers queue.

    Args:
        pipe: any supported pipeline, already on its device; its own safety checker must be None, since it
            blackens images and hides its scores.
        filters: what decides; at least one must see pictures or passes.
        protected: the library's items, from which the nudge pushes away.
        preferred: texts and PIL images that pull.
        alternatives: texts of what the model draws well: where nothing is preferred, the nearest of them to
            the prompt pulls, if any is near.
        rewriter: any callable (prompt, caption of the matched item or None, texts that have failed) → texts
            to ask for instead, such as a language model's; they are screened and verified like all others.
        strict: further filters that a steered picture must pass as well, usually the same with stricter
            thresholds.
        ladder: strategies and budget.
        budget: in the place of the ladder's own.
        early: an early verdict, which may end a doomed pass.
        prefer: how what pulls is chosen, see `nudge.prefer`.
        encoder: in whose space those strategies steer whose `space` is not the latent; it must not be what
            every filter sees by.
        ordinary: what calibration knows of ordinary prompts on this model, see `nudge.screen`.
        on_withheld: what stands for an image that is withheld: "none" for None, "placeholder" for a plain
            grey picture, or "raise" for a WithheldError once the whole call is through.

    Raises:
        ConfigError: for what cannot be guarded, and options that contradict one another.
        UnsupportedError: for a pipeline or scheduler that is not known to fit.
    """

    _OWN = frozenset(
        (
            "runner",
            "filters",
            "pass_filters",
            "prompt_filters",
            "protected",
            "preferred",
            "alternatives",
            "strict",
            "ladder",
            "early",
            "prefer",
            "encoder",
            "ordinary",
            "rewriter",
            "on_withheld",
            "_encoded",
            "_encoded_for",
            "_followed",
        )
    )

    def __init__(
        self,
        pipe: Any,
        filters: Sequence[AnyFilter],
        *,
        protected: Protected | None = None,
        preferred: Sequence[str | Image.Image] = (),
        alternatives: Sequence[str] = (),
        rewriter: Rewriter | None = None,
        strict: Sequence[Filter] = (),
        ladder: Ladder | None = None,
        budget: Budget | None = None,
        early: EarlyVerdict | None = None,
        prefer: str = "text",
        encoder: Encoder | None = None,
        ordinary: OrdinaryPrompts | None = None,
        on_withheld: OnWithheld = "none",
    ) -> None:
        check_filters("filters", filters, AnyFilter)
        self.filters = tuple(f for f in filters if isinstance(f, Filter))
        self.pass_filters = tuple(f for f in filters if isinstance(f, PassFilter))
        self.prompt_filters = tuple(f for f in filters if isinstance(f, PromptsFilter))
        if not self.filters and not self.pass_filters:
            raise ConfigError(
                "a guard whose filters see no picture would wave everything through; pass filters=[…]"
            )
        check_options(
            preferred=preferred,
            alternatives=alternatives,
            rewriter=rewriter,
            ladder=ladder,
            budget=budget,
            early=early,
            prefer=prefer,
            on_withheld=on_withheld,
        )
        self.runner = self._runner_for(pipe)
        self._followed: FollowedLibrary | None = None
        self.protected = protected
        self.preferred = tuple(preferred)
        self._encoded: dict[Any, Tensor] = {}
        self._encoded_for = self.preferred
        self.alternatives = tuple(alternatives)
        check_filters("strict", strict, Filter)
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
        self.ordinary = ordinary
        self.rewriter = rewriter
        self.on_withheld = on_withheld
        if encoder is not None and any(getattr(r, "space", LATENT) != LATENT for r in self.ladder.rungs):
            check_judges(encoder, (*self.filters, *self.strict))

    @classmethod
    def wrap(
        cls,
        pipe: Any,
        library: str | Path | Library,
        *,
        model: str | Path | None = None,
        filters: Sequence[AnyFilter | str] = (),
        preferred: Sequence[str | Image.Image] = (),
        alternatives: Sequence[str] | None = None,
        rewriter: Rewriter | None = None,
        ladder: Sequence[str] | Ladder | None = None,
        budget: Budget | None = None,
        early: bool | EarlyVerdict = True,
        prefer: str = "text",
        encoder: Encoder | str | Sequence[Encoder | str] | None = None,
        policy: Policy | None = None,
        on_withheld: OnWithheld = "none",
    ) -> Guard:
        """A guard around a pipeline that you have loaded.

        Args:
            pipe: any supported pipeline, already on its device and without its safety checker.
            library: the protected library, or the folder or address where it lies.
            model: the folder that the pipeline was loaded from; by default what the pipeline remembers.
            filters: further filters beside those over the library: objects, registered names, or
                `module:object`.
            preferred: texts and PIL images that pull.
            alternatives: texts of what the model draws well; by default what the library's calibration found
                for this model.
            rewriter: see `Guard`.
            ladder: strategy names, or a Ladder.
            budget: what one flagged image may cost.
            early: whether the early verdict may end a doomed pass, where the library was calibrated for this
                very model; or a verdict of your own.
            prefer: how what pulls is chosen, see `nudge.prefer`.
            encoder: in whose space strategies steer that need one, itself or its name; by default the
                library's first. A library whose encoders do not ship inside needs them named here, in a list
                where there are several: its own word loads nothing.
            policy: "steer" or "withhold" for every item, in the place of what each item says.
            on_withheld: see `Guard`.

        Raises:
            LibraryError: if the library cannot be used.
            EncoderError: if an encoder that it was built with is missing.
            ConfigError: for an unknown filter or strategy, and options that contradict one another.
            UnsupportedError: for a pipeline or scheduler that is not known to fit.
        """
        if isinstance(pipe, Guard):
            raise ConfigError("this is a guard already; pass its pipeline, guard.pipe")
        refuse_modular(pipe)
        if not hasattr(pipe, "scheduler") or not hasattr(pipe, "_execution_device"):
            raise ConfigError(f"{pipe!r} is no diffusers pipeline; load one, or use Guard.from_pretrained(…)")
        check_no_safety_checker(pipe)
        parts = guard_parts(
            pipe,
            library,
            model=model,
            filters=filters,
            alternatives=alternatives,
            ladder=ladder,
            early=early,
            encoder=encoder,
            policy=policy,
        )
        guard = cls(
            pipe,
            parts.filters,
            protected=parts.protected,
            preferred=preferred,
            alternatives=parts.alternatives,
            rewriter=rewriter,
            strict=parts.strict,
            ladder=parts.ladder,
            budget=budget,
            early=parts.early,
            prefer=prefer,
            encoder=parts.encoder,
            ordinary=parts.ordinary,
            on_withheld=on_withheld,
        )
        guard._followed = FollowedLibrary(parts, model=model, early=early, policy=policy)
        return guard

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        library: str | Path | Library | None = None,
        filters: Sequence[AnyFilter | str] = (),
        preferred: Sequence[str | Image.Image] = (),
        alternatives: Sequence[str] | None = None,
        rewriter: Rewriter | None = None,
        ladder: Sequence[str] | Ladder | None = None,
        budget: Budget | None = None,
        early: bool | EarlyVerdict = True,
        prefer: str = "text",
        encoder: Encoder | str | Sequence[Encoder | str] | None = None,
        policy: Policy | None = None,
        on_withheld: OnWithheld = "none",
        torch_dtype: torch.dtype | str | None = None,
        variant: str | None = None,
        config: str | Path | None = None,
        device: str | torch.device | None = None,
        **loader_keywords: Any,
    ) -> Guard:
        """A guard around a model folder, a hub id or a checkpoint file.

        Args:
            model: a folder that diffusers saved, a hub id, or a single .safetensors file.
            library: as in `wrap`; by default the embedded one.
            filters: as in `wrap`, as are all others up to on_withheld.
            preferred: see `wrap`.
            alternatives: see `wrap`.
            rewriter: see `Guard`.
            ladder: see `wrap`.
            budget: see `wrap`.
            early: see `wrap`.
            prefer: see `wrap`.
            encoder: see `wrap`.
            policy: see `wrap`.
            on_withheld: see `Guard`.
            torch_dtype: of the weights; "auto" for each part as it is stored; by default float32.
            variant: which files of the folder, such as "fp16"; by default the only ones that are there.
            config: for a single file, see `steerclear.pipelines.load_pipeline`.
            device: where the pipeline runs; by default the CPU.
            **loader_keywords: whatever else `DiffusionPipeline.from_pretrained` takes.

        Raises:
            ModelError: if the folder or id is no pipeline.
            SteerclearError: as `wrap`.
        """
        check_misspelt(loader_keywords)
        with collector_paused():
            pipe = load_pipeline(
                model, device, torch_dtype=torch_dtype, variant=variant, config=config, **loader_keywords
            )
            return cls.wrap(
                pipe,
                embedded.LIBRARY_FOLDER if library is None else library,
                model=model,
                filters=filters,
                preferred=preferred,
                alternatives=alternatives,
                rewriter=rewriter,
                ladder=ladder,
                budget=budget,
                early=early,
                prefer=prefer,
                encoder=encoder,
                policy=policy,
                on_withheld=on_withheld,
            )

    @classmethod
    def default(cls, **options: Unpack[GuardOptions]) -> Guard:
        """The embedded model guarded by the embedded library.

        Args:
            **options: as of `from_pretrained`.
        """
        return cls.from_pretrained(embedded.MODEL_FOLDER, **options)

    @property
    def library(self) -> Library | None:
        """The library that the guard follows; None for a guard of parts that were given to it."""
        return None if self._followed is None else self._followed.library

    def _checked(self, name: str, value: Any) -> Any:
        """Check a value before it is set as one of the guard's filters or as `on_withheld`."""
        if name == "on_withheld":
            check_on_withheld(value)
        if name in _FILTERS.values() or name == "strict":
            kind = next((kind for kind, held in _FILTERS.items() if held == name), Filter)
            check_filters(name, value, kind)
            return tuple(value)
        return value

    def _runner_for(self, pipe: Any) -> PipelineRunner:
        check_no_safety_checker(pipe)
        return PipelineRunner(pipe, self._traced_steps())

    def _traced_steps(self) -> int:
        return max((f.steps for f in self.pass_filters), default=0)

    # ── the way of a request ────────────────────────────────────────────────────────────────────────────────

    @overload
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        budget: Budget | Sequence[Budget] | None = None,
        on_flagged: OnFlagged | None = None,
        return_dict: Literal[True] = True,
        **kwargs: Any,
    ) -> GuardOutput: ...

    @overload
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        budget: Budget | Sequence[Budget] | None = None,
        on_flagged: OnFlagged | None = None,
        return_dict: Literal[False],
        **kwargs: Any,
    ) -> tuple[Any, ...]: ...

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        num_images_per_prompt: int = 1,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        budget: Budget | Sequence[Budget] | None = None,
        on_flagged: OnFlagged | None = None,
        return_dict: bool = True,
        **kwargs: Any,
    ) -> GuardOutput | tuple[Any, ...]:
        """Generate and hand out only what passes.

        An image that no filter flags is bit-identical to the plain pipeline's.

        Args:
            prompt: goes to the pipeline untouched, as num_images_per_prompt, generator and all other keyword
                arguments do. A pipeline that takes class labels is given `class_labels=[…]` and no prompt:
                prompt filters see nothing of it. Beside `prompt_embeds=…` it is for the filters and for
                rewriting alone, and may be left out.
            num_images_per_prompt: how many images of each prompt.
            generator: of the noise, as the pipeline takes it. With None the guard draws one for each image,
                so that the report's seed makes the picture again; `torch.manual_seed` before the call
                repeats them.
            budget: of each flagged image of this call, in the place of the ladder's. A list has one for each
                image; the first run then ends only where all are cancelled, and an image that is cancelled is
                not steered.
            on_flagged: called for each image that was not clear, before the call returns, with its number,
                the picture that was flagged and the report: for an audit, and never for handing out. The
                picture of a pass that was left early is a rough one, or None. It is not called for a call
                that was interrupted. What it raises ends the call, and nothing is handed out.
            return_dict: False for the tuple that the pipeline gives then, without the reports.
            **kwargs: the pipeline's own arguments. Of `output_type` see `GuardOutput`; with `latents` no seed
                tells the noise, and reports have none.

        Returns:
            Images and reports, one each per requested image, prompt by prompt.

        Raises:
            InputError: for an empty or overlong prompt, a step count below 1, and arguments that a guard
                cannot honour or the pipeline does not know.
            LibraryError: if the library cannot be read any more, or has lost all its items.
            WithheldError: if an image was withheld and `on_withheld` is "raise".
        """
        request = checked_request(
            self.pipe, prompt, images=num_images_per_prompt, generator=generator, kwargs=kwargs
        )
        self._check_filters(request)
        budgets = check_budgets(budget, request.count)
        if on_flagged is not None and not callable(on_flagged):
            raise ConfigError(f"on_flagged is {on_flagged!r}; pass a function of (number, picture, report)")
        # gradients are taken inside, whatever mode the caller is in
        with self._alone(), raising_if_lost(), torch.inference_mode(False), torch.no_grad():
            self._follow()
            output = self._call(request, budgets, on_flagged).run()
        withheld = [report for report in output.reports if report.outcome is Outcome.WITHHELD]
        if withheld and self.on_withheld == "raise":
            raise WithheldError(
                f"{len(withheld)} of {len(output.reports)} images are withheld: {withheld[0].reason}; "
                "the others are in error.output",
                output,
            )
        if return_dict:
            return output
        return output.to_tuple() if "nsfw_content_detected" in output_fields(self.pipe) else (output.images,)

    def _check_filters(self, request: Request) -> None:
        """Raise InputError for a call that some filter could not judge, or would always flag."""
        if self.runner.prompted and self.prompt_filters and not all(request.prompts):
            raise InputError(
                f"the filter {self.prompt_filters[0].name!r} looks at prompts, and there are embeddings "
                "alone; pass prompt=… with the text that they stand for, or use a guard without such filters"
            )
        needing = [f.name for f in self.pass_filters if getattr(f, "needs_guidance", False)]
        if needing and runs_unguided(self.pipe, request.kwargs):
            raise InputError(
                f"the filter {needing[0]!r} judges by classifier-free guidance, and this call of "
                f"{type(self.pipe).__name__} has none; ask for more guidance, or guard without this filter"
            )

    def check(self, images: Sequence[Image.Image]) -> list[tuple[Detection, ...]]:
        """The picture filters' detections on finished images, one tuple per image.

        Every item of the library counts, also one that is enforced for a share of the seeds alone: a picture
        here has no seed.

        Raises:
            InputError: for what is no list of PIL images.
            LibraryError: if the library cannot be read any more, or has lost all its items.
        """
        check_images(images)
        self._follow()
        rows = judge(self.filters, images)
        if (rolled_out := self._rolled_out) is None:
            return rows
        names = [f.name for f in self.filters]
        return [(*row, *rolled_out.all(image, names)) for row, image in zip(rows, images, strict=True)]

    @property
    def _rolled_out(self) -> RolledOut | None:
        return None if self._followed is None else self._followed.parts.rolled_out

    def _follow(self) -> None:
        """Rebuild the parts that depend on the library, if it has changed since they were built."""
        followed = self._followed
        if followed is None or not followed.changed:
            return
        with self._alone():  # latents are made with the pipeline's autoencoder, and calls read the parts
            if not followed.changed:  # another thread was faster
                return
            old, new = followed.parts, followed.build(self.pipe)
            for kind, name in _FILTERS.items():
                built = ([f for f in parts.filters if isinstance(f, kind)] for parts in (old, new))
                setattr(self, name, renewed(getattr(self, name), *built))
            self.strict = renewed(self.strict, old.strict, new.strict)
            self.runner.traced = self._traced_steps()
            # what the user has set to something else stays
            if self.protected is old.protected:
                self.protected = new.protected
            if self.early is old.early:
                self.early = new.early
            followed.parts = new  # last: until then other threads wait

    def _call(
        self, request: Request, budgets: Sequence[Budget | None], on_flagged: OnFlagged | None
    ) -> GuardedCall:
        """One call, with the guard's parts as they are now."""
        if self._encoded_for is not self.preferred:
            self._encoded, self._encoded_for = {}, self.preferred
        judges = Judges(
            filters=self.filters,
            pass_filters=self.pass_filters,
            prompt_filters=self.prompt_filters,
            strict=self.strict,
            early=self.early,
            rolled_out=self._rolled_out,
        )
        tasks = SteerTasks(
            runner=self.runner,
            judges=judges,
            protected=self.protected,
            preferred=self.preferred,
            encoded=self._encoded,
            alternatives=self.alternatives,
            prefer=self.prefer,
            encoder=self.encoder,
            ordinary=self.ordinary,
            rewriter=self.rewriter,
        )
        return GuardedCall(
            request=request,
            judges=judges,
            tasks=tasks,
            ladders=[replace(self.ladder, budget=budget or self.ladder.budget) for budget in budgets],
            placeholders=self.on_withheld == "placeholder",
            library_version=None if self._followed is None else self._followed.parts.version,
            on_flagged=on_flagged,
        )
