"""The recipe of the embedded model, stage by stage, as `steerclear train-emoji` runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from steerclear.encoders.embedded import Clip, CopyDescriptor
from steerclear.errors import InputError
from steerclear_lab.emoji import autoencoder, bystander, clip, dataset, denoiser, descriptor, dit, flow
from steerclear_lab.emoji.clip import ClipSize
from steerclear_lab.emoji.denoiser import DenoiserSize
from steerclear_lab.emoji.denoiser_training import LONG_PHASES, SHORT_PHASES, Phase
from steerclear_lab.emoji.dit import DitSize
from steerclear_lab.emoji.evaluate import GUIDANCE, NETWORKS
from steerclear_lab.emoji.flow import FlowSize
from steerclear_lab.emoji.siblings import PIXELS, SIBLINGS, Sibling, embedded_parts
from steerclear_lab.emoji.training import Schedule

STAGES = (*NETWORKS, "export", "library")
INDEPENDENT_STAGES = (*SIBLINGS, "bystander")  # they run only when named, and need no other stage


@dataclass(frozen=True)
class Recipe:
    """All sizes and schedules of the recipe.

    Attributes:
        size: side of the pictures, in pixels.
        guidance: scale that the finished model is used with, and its library calibrated at.
        phases: of the denoisers' training.
        autoencoder_channels: width of each level of the autoencoder.
        descriptor_widths: width of each level of the copy descriptor.

    The others are the size and the schedule of one network each.
    """

    size: int = 64
    guidance: float = GUIDANCE
    autoencoder_channels: tuple[int, ...] = (24, 48, 96)
    autoencoder: Schedule = Schedule(steps=6000, batch=4, rate=1.2e-3, warmup=200, weight_decay=0.0)
    clip_size: ClipSize = field(default_factory=ClipSize)
    clip: Schedule = Schedule(steps=1000, batch=96, rate=1e-3, weight_decay=0.1, ema=0.99)
    bystander_size: ClipSize = field(default_factory=lambda: ClipSize(width=120))
    bystander: Schedule = Schedule(steps=2000, batch=96, rate=1e-3, weight_decay=0.1, ema=0.99)
    descriptor_widths: tuple[int, ...] = (32, 64, 128, 192)
    descriptor: Schedule = Schedule(steps=500, batch=96, rate=1e-3, weight_decay=0.05, ema=0.99)
    denoiser_size: DenoiserSize = field(default_factory=DenoiserSize)
    denoiser: Schedule = Schedule(steps=3900, batch=32, rate=8e-4, warmup=150, ema=0.998)
    phases: tuple[Phase, ...] = SHORT_PHASES
    dit_size: DitSize = field(default_factory=DitSize)
    dit: Schedule = Schedule(steps=5000, batch=32, rate=8e-4, warmup=150)
    flow_size: FlowSize = field(default_factory=FlowSize)
    flow: Schedule = Schedule(steps=4500, batch=32, rate=8e-4, warmup=150)


LONG_DIT = Schedule(steps=20_000, batch=256, rate=1e-3, warmup=500, ema=0.9995)
LONG_FLOW = Schedule(steps=16_000, batch=256, rate=1e-3, warmup=500, ema=0.9995)

PRESETS = {
    "cpu": Recipe(),
    "long": Recipe(
        denoiser=Schedule(steps=4_000, batch=512, rate=8e-4, warmup=500, ema=0.9995),
        phases=LONG_PHASES,
        dit=LONG_DIT,
        flow=LONG_FLOW,
    ),
    "gpu": Recipe(
        size=128,
        autoencoder_channels=(64, 128, 256),
        autoencoder=Schedule(steps=30_000, batch=16, rate=5e-4, warmup=500, weight_decay=0.0),
        clip_size=ClipSize(width=256, heads=8, text_layers=6, vision_layers=6, patch=8, embedding=192),
        clip=Schedule(steps=6000, batch=256, rate=5e-4, weight_decay=0.1),
        descriptor_widths=(64, 128, 192, 256),
        descriptor=Schedule(steps=4000, batch=256, rate=1e-3, weight_decay=0.05),
        denoiser_size=DenoiserSize(channels=(128, 256, 384), layers=2, text_width=256),
        denoiser=Schedule(steps=60_000, batch=64, rate=3e-4, warmup=1000, ema=0.9995),
        phases=LONG_PHASES,
        dit=LONG_DIT,
        flow=LONG_FLOW,
    ),
}


@dataclass
class TrainingStages:
    """The stages that make one model; each is trained, or taken from its finished checkpoint.

    Attributes:
        recipe: sizes and schedules.
        work: folder of downloads and checkpoints.
        parts: a finished folder whose autoencoder, CLIP and descriptor are used as they are, or None.
    """

    recipe: Recipe
    work: Path
    parts: Path | None = None

    def __post_init__(self) -> None:
        self.pictures = dataset.build(self.work / "icons", self.recipe.size)
        if self.parts is not None:
            self.tokenizer = Clip.load(self.parts / "model").tokenizer
        else:
            self.tokenizer = clip.tokenizer_for(self.pictures, self.recipe.clip_size)

    def autoencoder(self) -> Any:
        """The AutoencoderKL."""
        if self.parts is not None:
            from diffusers import AutoencoderKL

            return AutoencoderKL.from_pretrained(self.parts / "model" / "vae")
        return autoencoder.train(
            self.pictures,
            channels=self.recipe.autoencoder_channels,
            schedule=self.recipe.autoencoder,
            folder=self.work,
        )

    def clip(self) -> Any:
        """The CLIPModel."""
        if self.parts is not None:
            return Clip.load(self.parts / "model").model
        return clip.train(
            self.pictures,
            tokenizer=self.tokenizer,
            size=self.recipe.clip_size,
            schedule=self.recipe.clip,
            folder=self.work,
        )

    def descriptor(self) -> Any:
        """The DescriptorNetwork."""
        if self.parts is not None:
            return CopyDescriptor.load(self.parts / "model" / "descriptor").network
        return descriptor.train(
            self.pictures,
            schedule=self.recipe.descriptor,
            folder=self.work,
            widths=self.recipe.descriptor_widths,
        )

    def denoiser(self) -> Any:
        """The UNet2DConditionModel."""
        return denoiser.train(
            self.pictures,
            vae=self.autoencoder(),
            text_encoder=self.clip().text_model,
            tokenizer=self.tokenizer,
            size=self.recipe.denoiser_size,
            schedule=self.recipe.denoiser,
            phases=self.recipe.phases,
            folder=self.work,
        )

    def export(self, folder: Path) -> None:
        """Write the finished model, the protected pictures and the prompt lists into `folder`."""
        from steerclear_lab.emoji import export

        model = self.clip()
        export.write_model(
            folder / "model",
            vae=self.autoencoder(),
            text_encoder=model.text_model,
            tokenizer=self.tokenizer,
            unet=self.denoiser(),
            clip=model,
            descriptor=self.descriptor(),
            size=self.recipe.size,
            recipe=asdict(self.recipe),
        )
        export.write_protected(folder / "protected", self.pictures)
        export.write_ordinary(folder, self.pictures)
        export.write_prompts(folder / "prompts", self.pictures)

    def library(self, folder: Path) -> None:
        """Build the protected library of `folder`, and calibrate its filters on the finished model."""
        from steerclear_lab.emoji import library_stage

        library_stage.build(folder)
        library_stage.calibrate(folder)


def run_stages(
    recipe: Recipe,
    *,
    work: Path,
    out: Path,
    stages: tuple[str, ...],
    report: Callable[[str], None] = print,
    parts: Path | None = None,
) -> None:
    """Run the named stages in order.

    A stage that needs an earlier one takes its checkpoint, or trains it first. The independent stages need
    none: a sibling is trained around the embedded autoencoder and CLIP, the bystander on pictures alone.

    Args:
        recipe: sizes and schedules.
        work: folder of downloads and checkpoints.
        out: the finished folder: model/, library/, prompts/, protected/, ordinary.png, ordinary.json and
            calibration.json; an independent stage writes to `out/NAME`. What ships of it lies in
            `src/steerclear/embedded` (model, library, prompts, protected) and in `steerclear_lab/assets`.
        stages: names of STAGES and INDEPENDENT_STAGES.
        report: is called with a line of text when a stage begins, and when its files are written.
        parts: a finished folder whose autoencoder, CLIP and descriptor are used as they are, such as
            `src/steerclear/embedded`.

    Raises:
        InputError: for a stage that does not exist.
    """
    every = (*STAGES, *INDEPENDENT_STAGES)
    unknown = [stage for stage in stages if stage not in every]
    if unknown:
        raise InputError(f"unknown stage {unknown[0]!r}; the stages are {', '.join(every)}")
    independent = {name: partial(train_sibling, name) for name in SIBLINGS} | {"bystander": train_bystander}
    for name, train in independent.items():
        if name in stages:
            report(f"{name} …")
            train(recipe, work, out / name)
            report(f"{name}: written to {out / name}")
    named = [stage for stage in STAGES if stage in stages]
    if not named:
        return
    training = TrainingStages(recipe, work, parts)
    for stage in named:
        report(f"{stage} …")
        if stage in ("export", "library"):
            getattr(training, stage)(out)
            report(f"{stage}: written to {out}")
        else:
            getattr(training, stage)()


def train_bystander(recipe: Recipe, work: Path, folder: Path) -> None:
    """Train the bystander, or take its finished checkpoint in `work`, and write it to `folder`."""
    from steerclear_lab.emoji import export

    pictures = dataset.build(work / "icons", recipe.size)
    model, tokenizer = bystander.train(
        pictures, size=recipe.bystander_size, schedule=recipe.bystander, folder=work
    )
    export.write_bystander(
        folder, model=model, tokenizer=tokenizer, recipe={"schedule": asdict(recipe.bystander)}
    )


def train_sibling(name: Sibling, recipe: Recipe, work: Path, folder: Path) -> None:
    """Train a sibling, or take its finished checkpoint in `work`, and write what it adds to `folder`."""
    from steerclear_lab.emoji import export

    pictures, parts = dataset.build(work / "icons", PIXELS), embedded_parts(name)
    common: dict[str, Any] = {"phases": recipe.phases, "folder": work / "siblings", **parts}
    if name == "dit":
        schedule = recipe.dit
        model = dit.train(pictures, size=recipe.dit_size, schedule=schedule, **common)
        pipe = dit.assemble(model, **parts, labels=dit.labels_of(pictures))
    else:
        schedule = recipe.flow
        model = flow.train(pictures, size=recipe.flow_size, schedule=schedule, **common)
        pipe = flow.assemble(model, **parts)
    phases = [asdict(phase) for phase in recipe.phases]
    export.write_sibling(folder, pipe, {"schedule": asdict(schedule), "phases": phases})
