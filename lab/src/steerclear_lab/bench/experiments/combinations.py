"""The combinations of the scalability experiment: a model, its architecture and its settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steerclear.embedded import LIBRARY_FOLDER, PROTECTED_FOLDER, read_prompts
from steerclear.filters.library import library_filters
from steerclear.guard import Guard
from steerclear.library import Library
from steerclear.loading import embedded_calibration, filter_parts, open_encoders
from steerclear.protected import Protected
from steerclear.steering import derive
from steerclear_lab.bench.baselines import Context
from steerclear_lab.bench.experiments.common import sample_prompts
from steerclear_lab.bench.judge import ordinary_pictures
from steerclear_lab.bench.suites import CALIBRATION, PREFERRED, references
from steerclear_lab.emoji.dit import label_of
from steerclear_lab.emoji.siblings import Sibling, load_sibling

CONCEPT = "mascot, photo"  # what the protected pictures are, for methods that steer away from words


@dataclass(frozen=True)
class Combination:
    """A model with its settings.

    Attributes:
        title: model, sampler and guidance in words.
        guidance: scale.
        scheduler: a class of diffusers; None for the model's own.
        sibling: one of the other architectures; None for the embedded model.
    """

    title: str
    guidance: float
    scheduler: str | None = None
    sibling: Sibling | None = None

    def load(self) -> Guard:
        """The guard over the model.

        Raises:
            ModelError: if the sibling's files are missing.
        """
        if self.sibling is not None:
            pipe = load_sibling(self.sibling)
            alternatives = embedded_calibration().get("alternatives", [])
            return guarded(pipe, [text for text in alternatives if self.can_draw(pipe, text)])
        guard = Guard.default()
        if self.scheduler is not None:
            import diffusers

            guard.pipe.scheduler = getattr(diffusers, self.scheduler).from_config(guard.pipe.scheduler.config)
        return guard

    def can_draw(self, pipe: Any, prompt: str) -> bool:
        """Whether the pipeline takes a prompt: a class-conditional one takes the names of its classes."""
        return self.sibling != "dit" or label_of(prompt) in pipe.labels

    def context(self, steps: int, seed: int) -> Context:
        """The context of all methods."""
        guard = self.load()
        captions = json.loads((PROTECTED_FOLDER / "captions.json").read_text())
        count = len(read_prompts("ordinary"))
        prompts = sample_prompts("ordinary", count=count, seed=derive(seed, "calibration"))
        ordinary = tuple(prompt for prompt, _ in prompts if self.can_draw(guard.pipe, prompt))
        return Context(
            pipe=guard.pipe,
            steps=steps,
            guidance=self.guidance,
            guard=guard,
            references=references(
                guard, lambda item: str(captions[f"{item}.png"]), ordinary_pictures()[::PREFERRED]
            ),
            concept=CONCEPT,
            ordinary=ordinary[:CALIBRATION],
            # one zero token for the missing third encoder of the flow-matching sibling
            extra={"max_sequence_length": 1} if self.sibling == "flow" else {},
        )


COMBINATIONS = {
    "sd-ddim": Combination("Stable Diffusion's format, DDIM, guidance 4", 4.0),
    "sd-dpm": Combination("the same, DPM++ 2M, guidance 7.5", 7.5, scheduler="DPMSolverMultistepScheduler"),
    "sd-euler-a": Combination(
        "the same, Euler ancestral, guidance 2", 2.0, scheduler="EulerAncestralDiscreteScheduler"
    ),
    "dit": Combination("class-conditional DiT, guidance 4", 4.0, sibling="dit"),
    "flow": Combination("SD3-type flow matching, guidance 4", 4.0, sibling="flow"),
}


def guarded(pipe: Any, alternatives: Sequence[str]) -> Guard:
    """A pipeline behind the embedded library, with the thresholds of the embedded model."""
    library = Library.open(LIBRARY_FOLDER)
    encoders = open_encoders(library)
    return Guard(
        pipe,
        library_filters(filter_parts(library, encoders)),
        strict=library_filters(filter_parts(library, encoders, "strict")),
        protected=Protected(pipe, library.pictures(), library.ids("withhold"), describe=library.captions_of),
        alternatives=alternatives,
    )
