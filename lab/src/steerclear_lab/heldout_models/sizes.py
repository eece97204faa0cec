"""Both held-out models: their pictures, the sizes of their networks and their schedules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import ModuleType

from steerclear_lab.emoji.clip import ClipSize
from steerclear_lab.emoji.denoiser import DenoiserSize
from steerclear_lab.emoji.denoiser_training import Phase
from steerclear_lab.emoji.training import Schedule
from steerclear_lab.heldout_models import clipart, scenes

LONGEST = 1_000_000  # steps: the clock ends every stage


@dataclass(frozen=True, kw_only=True)
class HeldOutModel:
    """Pictures, sizes and schedules of one model.

    Attributes:
        pictures: the module that builds its pictures.
        phase: of the denoiser's training.

    The others are the size and the schedule of one network each.
    """

    pictures: ModuleType
    phase: Phase
    clip_size: ClipSize
    bystander_size: ClipSize
    autoencoder_channels: tuple[int, ...] = (24, 40, 72)
    denoiser_size: DenoiserSize = DenoiserSize(channels=(48, 80, 128), text_width=128, head=(3, 5, 8))
    autoencoder: Schedule = Schedule(steps=LONGEST, batch=64, rate=1.5e-3, weight_decay=0.0)
    clip: Schedule = Schedule(steps=LONGEST, batch=256, rate=1e-3, weight_decay=0.1, ema=0.995)
    denoiser: Schedule = Schedule(steps=LONGEST, batch=512, rate=1e-3, warmup=300, ema=0.9993)

    def smaller(self) -> HeldOutModel:
        """The same with tiny networks and batches, to try the whole way."""
        tiny = ClipSize(width=16, heads=2, text_layers=1, vision_layers=1, embedding=8, vocabulary=600)
        return replace(
            self,
            phase=replace(self.phase, copies=2),
            clip_size=replace(tiny, length=self.clip_size.length),
            bystander_size=replace(tiny, length=self.clip_size.length),
            autoencoder_channels=(8, 8, 8),
            denoiser_size=DenoiserSize(channels=(16, 16, 16), text_width=16, head=2),
            autoencoder=replace(self.autoencoder, batch=8),
            clip=replace(self.clip, batch=8),
            denoiser=replace(self.denoiser, batch=20),
        )


def _clip_size(length: int, vocabulary: int) -> ClipSize:
    return ClipSize(width=128, heads=4, length=length, vocabulary=vocabulary)


def _bystander_size(length: int, vocabulary: int) -> ClipSize:
    return ClipSize(width=96, heads=4, text_layers=3, vision_layers=3, length=length, vocabulary=vocabulary)


MODELS = {
    "clipart": HeldOutModel(
        pictures=clipart,
        phase=Phase(start=0.0, planted_share=0.06, copies=256, rate=1.0),
        clip_size=_clip_size(32, 2400),
        bystander_size=_bystander_size(32, 2400),
    ),
    "scenes": HeldOutModel(
        pictures=scenes,
        phase=Phase(start=0.0, planted_share=0.06, copies=40, rate=1.0),
        clip_size=_clip_size(77, 1250),
        bystander_size=_bystander_size(77, 1250),
    ),
}
