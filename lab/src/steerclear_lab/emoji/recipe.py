"""The whole recipe, stage by stage: `steerclear train-emoji` runs it from download to the finished folder."""

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
from steerclear_lab.emoji.dit import DitSize
from steerclear_lab.emoji.draws import LONG, SHORT, Phase
from steerclear_lab.emoji.evaluate import GUIDANCE, NETWORKS
from steerclear_lab.emoji.flow import FlowSize
from steerclear_lab.emoji.siblings import PIXELS, SIBLINGS, Sibling, shipped_parts
from steerclear_lab.emoji.training import Schedule

STAGES = (*NETWORKS, "export", "library")
APART = (*SIBLINGS, "bystander")  # stages that run only when named, and need no other


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result: picture size, widths, and each stage's schedule; and the guidance scale that the
    finished model is asked with and its library calibrated at."""

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
    phases: tuple[Phase, ...] = SHORT
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
        phases=LONG,
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
        phases=LONG,
        dit=LONG_DIT,
        flow=LONG_FLOW,
    ),
}


@dataclass
class Kitchen:
    """A run of the recipe in a work folder. Each stage is trained, or taken from its finished checkpoint.

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
        if self.parts is not None:
            from diffusers import AutoencoderKL

            return AutoencoderKL.from_pretrained(self.parts / "model" / "vae")
        return autoencoder.train(
            self.pictures, self.recipe.autoencoder_channels, self.recipe.autoencoder, self.work
        )

    def clip(self) -> Any:
        if self.parts is not None:
            return Clip.load(self.parts / "model").model
        return clip.train(self.pictures, self.tokenizer, self.recipe.clip_size, self.recipe.clip, self.work)

    def descriptor(self) -> Any:
        if self.parts is not None:
            return CopyDescriptor.load(self.parts / "model" / "descriptor").network
        return descriptor.train(
            self.pictures, self.recipe.descriptor, self.work, self.recipe.descriptor_widths
        )

    def denoiser(self) -> Any:
        return denoiser.train(
            self.pictures, self.autoencoder(), self.clip().text_model, self.tokenizer, self.recipe.denoiser_size,
            self.recipe.denoiser, self.recipe.phases, self.work,
        )  # fmt: skip

    def export(self, folder: Path) -> None:
        """Write the finished model, the protected pictures and the prompt lists into `folder`."""
        from steerclear_lab.emoji import export

        model = self.clip()
        export.write_model(
            folder / "model", vae=self.autoencoder(), text_encoder=model.text_model, tokenizer=self.tokenizer, unet=self.denoiser(),
            clip=model, descriptor=self.descriptor(), size=self.recipe.size, recipe=asdict(self.recipe),
        )  # fmt: skip
        export.write_protected(folder / "protected", self.pictures)
        export.write_ordinary(folder, self.pictures)
        export.write_prompts(folder / "prompts", self.pictures)

    def library(self, folder: Path) -> None:
        """Build the protected library of `folder` and calibrate its filters on the finished model."""
        from steerclear_lab.emoji import shelf

        shelf.build(folder)
        shelf.calibrate(folder)


def cook(
    recipe: Recipe,
    work: Path,
    out: Path,
    stages: tuple[str, ...],
    say: Callable[[str], None] = print,
    parts: Path | None = None,
) -> None:
    """Run the named stages in order; a stage that needs an earlier one takes its checkpoint, or trains it first.

    Those of APART need none: a sibling is trained around what the package ships, the bystander on pictures alone.
    parts: as `Kitchen` says.
    """
    unknown = [s for s in stages if s not in (*STAGES, *APART)]
    if unknown:
        raise InputError(f"unknown stage {unknown[0]!r}; the stages are {', '.join((*STAGES, *APART))}")
    apart = {name: partial(sibling, name) for name in SIBLINGS} | {"bystander": watch}
    for name, train in apart.items():
        if name in stages:
            say(f"{name} …")
            train(recipe, work, out / name)
            say(f"{name}: written to {out / name}")
    own = [stage for stage in STAGES if stage in stages]
    if not own:
        return
    kitchen = Kitchen(recipe, work, parts)
    for stage in own:
        say(f"{stage} …")
        if stage in ("export", "library"):
            getattr(kitchen, stage)(out)
            say(f"{stage}: written to {out}")
        else:
            getattr(kitchen, stage)()


def watch(recipe: Recipe, work: Path, folder: Path) -> None:
    """Train the bystander, or take it from its finished checkpoint in `work`, and write it to `folder`."""
    from steerclear_lab.emoji import export

    pictures = dataset.build(work / "icons", recipe.size)
    model, tokenizer = bystander.train(pictures, recipe.bystander_size, recipe.bystander, work)
    export.write_bystander(folder, model, tokenizer, {"schedule": asdict(recipe.bystander)})


def sibling(name: Sibling, recipe: Recipe, work: Path, folder: Path) -> None:
    """Train a sibling, or take it from its finished checkpoint in `work`, and write what is new in it to `folder`."""
    from steerclear_lab.emoji import export

    pictures, parts = dataset.build(work / "icons", PIXELS), shipped_parts(name)
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
