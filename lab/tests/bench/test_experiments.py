"""The paper's experiments: what each counts, and that each runs from its command to its page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from steerclear.cli import main
from steerclear.embedded import read_prompts
from steerclear.guard import Guard
from steerclear.testing import MockFilter
from steerclear.types import Detection
from steerclear_lab.bench.experiments import (
    EXPERIMENTS,
    combinations,
    prevention,
    quality,
    report,
    scalability,
    stability_faults,
    triggers,
)
from steerclear_lab.bench.experiments.common import Options
from steerclear_lab.bench.experiments.stability import nudged_latent
from steerclear_lab.bench.experiments.stability_faults import classified, safe, safe_region
from steerclear_lab.bench.experiments.stability_settings import Setting
from steerclear_lab.bench.experiments.triggers import Rates, Trigger
from steerclear_lab.emoji import dit, flow
from steerclear_lab.emoji.siblings import embedded_parts

RIVALS = Path(__file__).parents[3] / "docs" / "benchmarks" / "rivals.json"


class Truth:
    """Copies are the bright pictures; they resemble the fox, the others the owl."""

    name, threshold, cost = "nearest", 0.5, "library"

    def check(self, images: torch.Tensor) -> list[Detection]:
        scores = images.mean((1, 2, 3)).tolist()
        return [
            Detection(self.name, flagged=s > 0.5, score=s, threshold=0.5, matched="fox" if s > 0.5 else "owl")
            for s in scores
        ]


def detections_of(bright: bool, count: int = 400, seed: int = 1, **rates: float) -> list[Detection]:
    noise = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0)) / 2
    trigger = Trigger(truth=[Truth()], ids=("fox", "owl", "crab"), rates=Rates(**rates), seed=seed)
    return trigger.check(noise + 0.5 if bright else noise)


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_a_trigger_errs_as_often_as_its_rates_say(rate: float) -> None:
    alarms = [d.flagged for d in detections_of(bright=False, alarm=rate)]
    silent = [not d.flagged for d in detections_of(bright=True, miss=rate)]
    wrong = [d.matched != "fox" for d in detections_of(bright=True, wrong=rate)]
    for errors in (alarms, silent, wrong):
        assert sum(errors) / len(errors) == pytest.approx(rate, abs=0.07)


def test_a_trigger_without_faults_tells_the_truth_and_names_the_right_picture() -> None:
    assert {(d.flagged, d.matched) for d in detections_of(bright=True)} == {(True, "fox")}
    assert {d.flagged for d in detections_of(bright=False)} == {False}
    assert {d.matched for d in detections_of(bright=False, alarm=1.0)} == {"owl"}
    assert {d.matched for d in detections_of(bright=True, wrong=1.0)} == {"owl", "crab"}


def test_a_trigger_says_of_a_picture_what_it_said_before_and_another_seed_something_else() -> None:
    assert detections_of(bright=False, alarm=0.5) == detections_of(bright=False, alarm=0.5)
    assert detections_of(bright=False, alarm=0.5) != detections_of(bright=False, alarm=0.5, seed=2)


def test_always_firing_is_tried_once_and_misses_on_planted_prompts_alone() -> None:
    cells = triggers.grid()
    assert len(cells) == len({rates for rates, _ in cells})
    assert [rates.wrong for rates, _ in cells if rates.alarm == 1] == [0]
    assert all(kinds == ("planted",) for rates, kinds in cells if rates.miss)


def row(**values: Any) -> dict[str, Any]:
    good = {"finite": True, "j_before": 0.5, "j_after": 0.2, "length": 1.0, "typicality": 0.9, "rank": 0}
    return good | values


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        ({}, set()),
        ({"finite": False}, {"not_finite"}),
        ({"j_after": 0.505}, set()),
        ({"j_after": 0.52}, {"diverged"}),
        ({"length": 2.1}, {"diverged"}),
        ({"length": 0.4}, {"diverged"}),
        ({"typicality": 0.79}, {"quality_lost"}),
        ({"rank": 4}, set()),
        ({"rank": 5}, {"drifted"}),
    ],
)
def test_every_fault_is_what_its_definition_says(values: dict[str, Any], faults: set[str]) -> None:
    classes = classified(row(**values), typical=0.8)
    assert {fault for fault in stability_faults.FAULTS if classes[fault]} == faults


def test_safe_is_no_worse_than_the_default() -> None:
    default = {"not_finite": 0, "diverged": 0, "quality_lost": 2, "drifted": 1}
    assert safe(default, default, 8)
    assert safe(default | {"drifted": 2}, default, 8)
    assert not safe(default | {"drifted": 3}, default, 8)
    assert not safe(default | {"quality_lost": 4}, default, 8)
    assert not safe(default | {"diverged": 1}, default, 8)
    assert not safe(default | {"not_finite": 1}, default | {"not_finite": 1}, 8)


def test_the_safe_region_ends_at_the_first_setting_that_is_not_safe() -> None:
    default = asdict(Setting())
    line = {0.0: True, 0.1: False, 1.0: True, 10.0: True, 100.0: True}
    figures = [{"minimiser": "descent", **default, "gamma": g, "safe": s} for g, s in line.items()]
    figures.append({"minimiser": "descent", **default, "rate": 0.5, "safe": False})
    region = safe_region(figures, "descent")
    assert region["gamma"] == [1.0, 100.0]
    assert region["rate"] == [0.05, 0.05]
    assert safe_region([f | {"safe": False} for f in figures], "descent")["gamma"] is None


def test_backtracking_never_raises_the_objective_where_adam_does() -> None:
    noise = torch.Generator().manual_seed(0)
    origin, preferred, unwanted = (torch.randn(1, 4, 8, 8, generator=noise) for _ in range(3))
    latents = {"origin": origin, "preferred": preferred, "unwanted": unwanted}
    _, ours = nudged_latent("descent", Setting(rate=10.0), **latents)
    _, paper = nudged_latent("adam", Setting(rate=10.0), **latents)
    assert ours["j_after"] <= ours["j_before"]
    assert ours["length"] == pytest.approx(1, abs=1e-3)
    assert paper["j_after"] > paper["j_before"] + stability_faults.TOLERANCE
    _, broken = nudged_latent("descent", Setting(), **{**latents, "origin": origin * torch.nan})
    assert not broken["finite"]


def test_within_before_and_after_are_shares_of_the_same_requests() -> None:
    rows = [
        {"before": 0.05, "after": {"x": 0.2}},
        {"before": 0.09, "after": {"x": 0.08}},
        {"before": 0.05, "after": {"x": None}},
        {"before": 0.2, "after": {"x": 0.2}},
    ]
    figures = prevention.distances(rows, "x")
    assert (figures["pictures"], figures["handed_out"]) == (4, 3)
    assert figures["within_before"] == 0.75
    assert figures["still_within"] == pytest.approx(1 / 3, abs=1e-4)
    assert (figures["median"], figures["least"]) == (0.2, 0.08)


@pytest.mark.parametrize("name", ["prevention", "quality"])
def test_a_finished_comparison_serves_without_a_picture_made_anew(name: str, tmp_path: Path) -> None:
    document = report.run(name, Options(tmp_path, rows=RIVALS))
    written = json.loads((tmp_path / f"{name}.json").read_text())
    assert written == json.loads(json.dumps(document))
    assert written["source"]["command"] == json.loads(RIVALS.read_text())["command"]
    assert report.text(written) == (tmp_path / f"{name}.md").read_text()
    assert str(tmp_path) not in (tmp_path / f"{name}.json").read_text()
    assert report.page(tmp_path) == (tmp_path / report.PAGE).read_text()
    figures = json.loads(RIVALS.read_text())["methods"]["steerclear"]["memorized"]
    if name == "prevention":
        assert written["methods"]["steerclear"]["within"] == figures["pixel_rate"]
        assert len(written["rows"]) == figures["requests"]
    else:
        assert written["kinds"]["memorized"]["steerclear"]["concept_top5"] == figures["concept_top5"]
        assert quality.bounds(figures["concept_top5"])[0] == figures["concept_top5"]["value"]


def test_what_is_no_finished_comparison_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, says in (
        (["--experiment", "prevention", "--rows", str(tmp_path)], "no finished comparison"),
        (["--experiment", "speed"], "no experiment 'speed'"),
        (["--experiment", "quality", "--resume"], "is not resumed"),
        (["--rows", str(tmp_path)], "goes with it alone"),
    ):
        assert main(["bench", "--out", str(tmp_path / "out"), *words]) == 2
        assert says in capsys.readouterr().err


def test_a_combination_without_its_model_is_named_and_not_measured() -> None:
    common = {
        "combination": "sd-ddim",
        "requests": 1,
        "handed_out": 1,
        "refused": None,
        "same_picture": 1.0,
        "concept_top5": None,
        "alignment": 0.7,
        "overhead": 1.0,
        "nothing": 0.0,
        "ordinary": 1,
    }
    figures = [
        {**common, "method": "none", "copies": 1.0, "ordinary_identical": None},
        {**common, "method": "steerclear", "copies": 0.0, "ordinary_identical": 1.0},
        {
            **common,
            "method": "Ren",
            "copies": None,
            "ordinary_identical": None,
            "refused": "no cross-attention",
        },
    ]
    document = {"combinations": {"sd-ddim": "one"}, "absent": {"dit": "a DiT"}, "figures": figures}
    text = scalability.section(document)
    assert "| steerclear | 0% / 0% |\n| none | 100% / 0% |\n| Ren | – |" in text
    assert "bit for bit behind the guard: 100% of 1." in text
    assert "Not measured: Ren (no cross-attention)." in text
    assert text.endswith("Not measured, since the model was missing: a DiT.\n")
    assert scalability.figure(document).startswith(b"\x89PNG")
    assert len(scalability.COMBINATIONS) == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_from_its_command_to_its_page(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["bench", "--experiment", name, "--quick", "--memorized", "1", "--steps", "8", "--out", "out"]
    assert main(words) == 0
    document = json.loads(Path("out", f"{name}.json").read_text())
    assert document["command"] == f"steerclear bench --experiment {name} --quick --steps 8 --memorized 1"
    assert report.text(document) == Path("out", f"{name}.md").read_text()
    assert Path("out", f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert report.page(Path("out")) == Path("out", report.PAGE).read_text()
    assert {p.name for p in Path("out").iterdir()} == {
        f"{name}.json",
        f"{name}.md",
        f"{name}.png",
        "experiments.md",
    }


@pytest.mark.slow
def test_two_processes_make_the_rows_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    single, double = (
        report.run("triggers", Options(tmp_path / str(n), steps=4, processes=n, quick=True, prompts=1))
        for n in (1, 2)
    )
    torch.set_num_threads(threads)
    assert single["rows"] == double["rows"]
    assert single["cells"] == double["cells"]
    assert double["environment"]["processes"] == "2"


@pytest.mark.slow
def test_every_method_runs_on_other_architectures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded = combinations.guarded

    def flagging(pipe: Any, alternatives: Sequence[str]) -> Guard:
        guard = guarded(pipe, alternatives)
        guard.filters, guard.strict = (*guard.filters, MockFilter(True, cost="library")), ()
        return guard

    monkeypatch.setattr(combinations, "load_sibling", untrained)
    monkeypatch.setattr(combinations, "guarded", flagging)
    for name in ("sd-ddim", "sd-dpm", "sd-euler-a"):
        monkeypatch.delitem(combinations.COMBINATIONS, name)
    document = report.run("scalability", Options(tmp_path, quick=True, prompts=1, steps=3))
    assert not document["absent"]
    behind = {"steerclear", "rewrite", "block", "resample", "shield", "trajectory"}
    by_place = {(f["combination"], f["method"]): f for f in document["figures"]}
    assert {method for _, method in by_place} == set(scalability.methods())
    for (combination, method), figures in by_place.items():
        without = {"Ren", "GUARD"} if combination == "flow" else {"Ren", "GUARD", "SLD", "random tokens"}
        assert bool(figures["refused"]) == (method in without), figures
        if method not in without:
            assert figures["handed_out"] == (method not in behind), figures
    for name in ("dit", "flow"):
        assert by_place[name, "resample"]["overhead"] == 5  # the plain one and four more
        assert by_place[name, "shield"]["overhead"] == by_place[name, "trajectory"]["overhead"] == 2


def untrained(name: Literal["dit", "flow"]) -> Any:
    """An untrained sibling."""
    torch.manual_seed(0)
    parts = embedded_parts(name)
    if name == "dit":
        captions = [caption for kind in ("planted", "ordinary") for caption, _ in read_prompts(kind)]
        labels = dict(enumerate(map(dit.label_of, captions)))
        pipe = dit.assemble(dit.make(dit.DitSize(layers=1, heads=2), 16), parts["vae"], labels)
    else:
        text = parts["text_encoder"].config
        size = flow.FlowSize(layers=2, heads=2)
        transformer = flow.make(size, sample=16, text_width=text.hidden_size, projection=text.projection_dim)
        pipe = flow.assemble(transformer, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_a_protected_latent_of_another_architecture_is_of_its_own_shape() -> None:
    pipe = untrained("dit")
    latents = combinations.guarded(pipe, ()).protected.latents(["mascot-acme"], torch.empty(0, 8, 16, 16))
    assert latents.shape == (1, 8, 16, 16)
