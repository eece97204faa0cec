"""What the tests of guards share: a strategy that watches, protected pictures, a calibrated library."""

from __future__ import annotations

import torch
from PIL import Image

from steerclear import Library
from steerclear.filters import EarlyVerdict
from steerclear.filters.early import Settings
from steerclear.nudge.base import Candidate
from steerclear.nudge.ladder import Ladder, strategies
from steerclear.pipelines import latent_like
from steerclear.pixels import to_tensor
from steerclear.protected import Protected
from steerclear.steering import generators
from steerclear.testing import FakeEncoder, MockFilter

FAST = {"num_inference_steps": 3, "guidance_scale": 4.0}
SHORT = Ladder(strategies(("condition", "final-latent+condition", "resample")))
# no picture of a random model comes near: only what a test says is flagged
THRESHOLDS = {"nearest": 0.999999, "pixel": 0.9999, "tiled": 0.9999, "copy": 1000.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def plain(pipe, prompt, seeds, **kwargs):
    return pipe([prompt] * len(seeds), generator=generators(seeds), **{**FAST, **kwargs}).images


def protected_by(pipe, images):
    return Protected(pipe, {f"item-{i}": pixels for i, pixels in enumerate(to_tensor(images))})


def early_verdict(
    pipe, protected, threshold, step=0, scheduler=None, steps=(3, 3), guidance=(4.0, 4.0), spacing="same"
):
    latents = protected.latents(tuple(protected.pictures), latent_like(pipe))
    usual = pipe.scheduler.config.timestep_spacing
    settings = Settings(
        (scheduler or type(pipe.scheduler).__name__,),
        steps=steps,
        guidance=guidance,
        spacing=usual if spacing == "same" else spacing,
    )
    return EarlyVerdict(
        tuple(protected.pictures), latents=latents, threshold=threshold, step=step, settings=settings
    )


def flagging_at(pipe, step):
    """An early verdict that flags every image at a step."""
    latents = torch.ones(1, *latent_like(pipe).shape[1:])
    settings = Settings(
        (type(pipe.scheduler).__name__,),
        steps=(1, 99),
        guidance=(0.0, 99.0),
        spacing=pipe.scheduler.config.timestep_spacing,
    )
    return EarlyVerdict(("item",), latents=latents, threshold=-1.0, step=step, settings=settings)


def only(place, count):
    """A filter that flags one of so many images, and nothing that is made in its stead."""
    return MockFilter([i == place for i in range(count)] + [False])


def colour(name, size=(64, 64)):
    return Image.new("RGB", size, name)


class Watching:
    """A rung that keeps the task, asks something of it, and draws an owl."""

    name = "watching"

    def __init__(self, ask=lambda task: None):
        self.tasks, self.answers, self.ask = [], [], ask

    def apply(self, task, seed):
        self.tasks.append(task)
        self.answers.append(self.ask(task))
        condition, noise = task.condition("an owl at night"), task.torch_generator(seed)
        return Candidate(
            task.runner.regenerate(condition, task.start, kwargs=task.kwargs, generator=noise), "watched"
        )


def library_protecting(pipe, folder):
    """A calibrated library that protects what the tiny pipeline makes of "a fox" with seed 0."""
    from steerclear.library import add

    pipe("a fox", generator=seeded(), **FAST).images[0].save(folder / "fox.png")
    library = Library.create(folder / "library", [FakeEncoder(name="descriptor")])
    add(library, [folder / "fox.png"], [FakeEncoder(name="descriptor")])
    library.write_note("calibration", {"thresholds": THRESHOLDS})
    return library


def use_tiny_descriptor(monkeypatch):
    """The tests' libraries are built with a tiny encoder under the embedded descriptor's name."""
    from steerclear.encoders.embedded import CopyDescriptor

    fake = classmethod(lambda cls, device="cpu": FakeEncoder(name="descriptor"))
    monkeypatch.setattr(CopyDescriptor, "default", fake)
