"""The whole recipe in one command, from download to a folder that a guard can use; few steps, real sizes."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from steerclear import Guard
from steerclear.cli import main
from steerclear.cli.opening import usual_guidance
from steerclear_lab.emoji import library_stage, recipe

TRAINED = ("autoencoder", "clip", "descriptor", "denoiser")
FEW = 4
STRIDE = {"planted": 6, "ordinary": 24, "heldout": 24}  # of the prompts that the thresholds come from


def shortened(full: recipe.Recipe) -> recipe.Recipe:
    """The recipe with a handful of steps in each stage, and of altered copies."""
    return replace(
        full,
        phases=tuple(replace(phase, copies=min(2, phase.copies)) for phase in full.phases),
        **{
            name: replace(getattr(full, name), steps=FEW, batch=min(8, getattr(full, name).batch), warmup=1)
            for name in TRAINED
        },
    )


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A work folder, where the icon packages can be had."""
    if shutil.which("npm") is None or subprocess.run(["npm", "ping"], capture_output=True).returncode:
        pytest.skip("npm is not here, or its registry is out of reach")
    return tmp_path / "work"


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_one_command_goes_from_download_to_a_guarded_model_and_a_second_trains_nothing(
    preset: str,
    work: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(recipe.PRESETS, preset, shortened(recipe.PRESETS[preset]))
    monkeypatch.setattr(library_stage, "COPY_SEEDS", 2)
    monkeypatch.setattr(library_stage, "STEPS", FEW)
    prompts = library_stage._prompts
    monkeypatch.setattr(
        library_stage, "_prompts", lambda folder, name: prompts(folder, name)[:: STRIDE[name]]
    )
    out = tmp_path / "finished"
    words = ["train-emoji", "--preset", preset, "--work", str(work), "--out", str(out)]
    assert main(words) == 0
    messages = capsys.readouterr().err
    assert all(f"{stage} …" in messages for stage in recipe.STAGES)
    for name in ("planted", "template", "ordinary", "heldout"):
        assert (out / "prompts" / f"{name}.txt").read_text().strip()
    assert json.loads((out / "calibration.json").read_text())["thresholds"]
    guard = Guard.from_pretrained(out / "model", library=out / "library")
    assert len(guard.protected.pictures) >= 24  # sixteen mascots and eight photographs
    assert (
        guard.pipe("a fox, noto style", num_inference_steps=2).images[0].width == recipe.PRESETS[preset].size
    )
    assert guard("a fox, noto style", num_inference_steps=2).reports
    assert usual_guidance(str(out / "model")) == recipe.PRESETS[preset].guidance
    before = {file: file.stat().st_mtime_ns for file in work.glob("*.pt")}
    assert before
    assert main([*words, *(word for stage in TRAINED for word in ("--stage", stage))]) == 0
    assert {file: file.stat().st_mtime_ns for file in work.glob("*.pt")} == before
