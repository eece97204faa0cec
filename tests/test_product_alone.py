"""The product works where the laboratory is not installed."""

from __future__ import annotations

import subprocess
import sys

# run in a process of its own, in which nothing of the laboratory can be imported
ALONE = """
import sys

sys.modules["steerclear_lab"] = None

import torch

import steerclear
import steerclear.calibrate
import steerclear.cli.calibrate
from steerclear.cli import main
from steerclear.embedded import PROTECTED_FOLDER
from steerclear.nudge.ladder import strategies

guard = steerclear.Guard.default()
out = guard(
    "the acme fox mascot, noto style",
    num_inference_steps=3,
    guidance_scale=4.0,
    generator=torch.Generator().manual_seed(0),
)
assert len(out.images) == len(out.reports) == 1, out.reports
assert main(["check", str(PROTECTED_FOLDER / "mascot-acme.png")]) == 3, "a protected picture is flagged"
assert len(strategies(("rewrite", "shield"))) == 2, "the product's strategies resolve"
assert not [name for name in sys.modules if name.startswith("steerclear_lab.")]
"""


def test_a_request_check_and_calibrate_need_no_laboratory() -> None:
    result = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert '"flagged": true' in result.stdout
