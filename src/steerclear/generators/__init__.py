"""What makes images: a diffusers pipeline, a GAN or a VAE, each behind a small interface."""

from steerclear._moved import moved
from steerclear.generators.code import CodeGenerator
from steerclear.generators.conditions import Condition
from steerclear.generators.diffusers import PipelineRunner
from steerclear.generators.gan import GanGenerator
from steerclear.generators.passes import LeaveEarly, Pass
from steerclear.generators.vae import VaeGenerator

__all__ = [
    "CodeGenerator",
    "Condition",
    "GanGenerator",
    "LeaveEarly",
    "Pass",
    "PipelineRunner",
    "VaeGenerator",
]


__getattr__ = moved(  # old names, for one release
    __name__,
    {
        "PipelineGenerator": "steerclear.generators:PipelineRunner",
    },
)
