"""What makes images: a diffusers pipeline behind one small interface."""

from steerclear.generators.conditions import Condition
from steerclear.generators.diffusers import LeaveEarly, Pass, PipelineGenerator

__all__ = ["Condition", "LeaveEarly", "Pass", "PipelineGenerator"]
