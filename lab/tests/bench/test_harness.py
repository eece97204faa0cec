"""A whole comparison, small: a tiny model, two methods, a few steps."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from steerclear.cli import main
from steerclear.embedded import read_prompts
from steerclear.errors import InputError
from steerclear.testing import tiny_pipeline
from steerclear_lab.bench import rivals_page, rivals_report
from steerclear_lab.bench.baselines import named
from steerclear_lab.bench.harness import Plan, count, evaluation_rounds, run, task_runner
from steerclear_lab.bench.notebook import Notebook
from steerclear_lab.bench.suites import Request, Suite, folder, sample, split
from steerclear_lab.bench.summary import document, picture_features
from steerclear_lab.bench.workers import Workers

PLAN = Plan(validation=1, memorized=2, template=0, ordinary=2, seeds=2, trials=2, steps=2)
METHODS = named(["none", "spell"])
HEADER = {"plan": "small"}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Rounding depends on the number of threads: only with equal numbers are pictures bit-identical."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model`, `references` with one picture that the model makes, and `prompts.csv`."""
    here = tmp_path_factory.mktemp("bench")
    pipe = tiny_pipeline()
    pipe.save_pretrained(here / "model")
    (here / "references").mkdir()
    generator = torch.Generator().manual_seed(0)
    picture = pipe("the acme fox", num_inference_steps=2, guidance_scale=4.0, generator=generator).images[0]
    picture.save(here / "references" / "acme-fox.png")
    lines = [
        "Caption;URL;type",
        "the acme fox;;VM",
        "the brim owl;;VM",
        "the dran cat;;VM",
        "a bear;;ordinary",
        "a tree;;ordinary",
    ]
    (here / "prompts.csv").write_text("\n".join(lines) + "\n")
    return here


def built(workspace: Path) -> Suite:
    return folder(
        model=str(workspace / "model"),
        prompts=workspace / "prompts.csv",
        pictures=workspace / "references",
        work=workspace,
        validation=1,
        most=2,
        seed=0,
        steps=2,
        guidance=4.0,
    )


@pytest.fixture(scope="module")
def suite(workspace: Path) -> Suite:
    return built(workspace)


def compare(
    suite: Suite, at: Path, advance: Any = lambda: None, make: Any = None, processes: int = 1
) -> dict[str, Any]:
    notebook = Notebook(at, header=HEADER, resume=(at / "plan.json").exists(), processes=processes)
    chosen = run(suite=suite, methods=METHODS, plan=PLAN, notebook=notebook, advance=advance, make=make)
    return document(
        suite=suite,
        chosen=chosen,
        plan=PLAN,
        notebook=notebook,
        command="steerclear bench",
        features=picture_features(suite, notebook),
    )


def untimed(value: Any) -> Any:
    """Without what a clock said."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in ("seconds", "wall_ratio")}
    return [untimed(v) for v in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def finished(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    at = tmp_path_factory.mktemp("finished")
    return at, compare(suite, at)


def test_a_run_that_was_killed_goes_on_to_the_same_figures(
    suite: Suite, tmp_path: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    class Killed(BaseException):
        pass

    written = 0

    def dies() -> None:
        nonlocal written
        written += 1
        if written == 5:
            raise Killed

    with pytest.raises(Killed):
        compare(suite, tmp_path, dies)
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert len(lines) == 5
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"key": "torn')
    again = compare(suite, tmp_path)
    assert (tmp_path / "rows.jsonl").read_text().splitlines()[:5] == lines  # nothing is made twice
    assert untimed(again) == untimed(finished[1])


@pytest.mark.slow
def test_two_processes_make_the_same_as_one(
    workspace: Path, suite: Suite, tmp_path: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    with Workers(partial(task_runner, partial(built, workspace)), 2) as make:
        comparison = compare(suite, tmp_path, make=make, processes=2)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(comparison["rows"])
    assert [r.get("sha256") for r in comparison["rows"]] == [r.get("sha256") for r in finished[1]["rows"]]
    assert comparison["environment"].pop("processes") == "2"
    assert finished[1]["environment"]["processes"] == "1"
    here = {"environment": None}  # threads and processes are what differs
    assert untimed(comparison | here) == untimed(finished[1] | here)
    again = compare(suite, tmp_path)  # what is finished is not made again, and the page says how it was made
    assert again["environment"]["processes"] == "2, then 1"
    assert untimed(again | here) == untimed(finished[1] | here)


def test_every_method_answers_every_request_and_plain_is_the_measure(
    suite: Suite, finished: tuple[Path, dict[str, Any]]
) -> None:
    comparison = finished[1]
    assert len(comparison["rows"]) == count(suite, METHODS, PLAN)
    plain, spell = comparison["methods"]["none"], comparison["methods"]["SPELL"]
    assert plain["memorized"]["requests"] == spell["memorized"]["requests"] == 4  # 2 prompts of 2 seeds
    assert plain["memorized"]["nfe_ratio"] == {"median": 1.0, "p95": 1.0}
    assert plain["memory_ratio"] == 1
    assert plain["ordinary"]["identical_rate"]["value"] == 1
    assert [t["method"] for t in comparison["tuning"]] == ["SPELL", "SPELL"]
    assert sum(t["chosen"] for t in comparison["tuning"]) == 1


def test_tuning_never_sees_a_tested_prompt(finished: tuple[Path, dict[str, Any]]) -> None:
    seen = {
        phase: {r["prompt"] for r in finished[1]["rows"] if r["phase"] == phase}
        for phase in ("tuning", "test")
    }
    assert seen["tuning"]
    assert not seen["tuning"] & seen["test"]


def test_methods_take_turns_at_being_first(suite: Suite) -> None:
    chosen = {name: method() for name, method in METHODS.items()}
    order = [task.method.name for group in evaluation_rounds(suite, chosen, PLAN) for task in group]
    assert order[:4] == ["none", "SPELL", "SPELL", "none"]


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    Notebook(tmp_path, HEADER, resume=False)
    with pytest.raises(InputError, match="--resume"):
        Notebook(tmp_path, HEADER, resume=False)
    with pytest.raises(InputError, match="other options"):
        Notebook(tmp_path, {"plan": "large"}, resume=True)


def test_the_split_is_by_prompt_whatever_the_order() -> None:
    planted = [Request("memorized", p, f) for p, f in read_prompts("planted")]
    validation, test = split(planted, 6, seed=0)
    assert (len(validation), len(test)) == (6, 18)
    assert not {r.prompt for r in validation} & {r.prompt for r in test}
    again, _ = split(planted[::-1], 6, seed=0)
    assert set(again) == set(validation)
    assert set(split(planted, 6, seed=1)[0]) != set(validation)
    assert sample(planted, 3, 0) == sample(planted[::-1], 3, 0)


def test_the_report_is_one_file_that_asks_no_network(
    suite: Suite, tmp_path: Path, finished: tuple[Path, dict[str, Any]]
) -> None:
    at, comparison = finished
    notebook = Notebook(at, HEADER, resume=True)
    drawn = rivals_report.write(
        comparison, suite=suite, notebook=notebook, features=picture_features(suite, notebook), out=tmp_path
    )
    page = (tmp_path / "rivals.html").read_text()
    assert "http" not in page
    sources = re.findall(r"(?:src|href|url)\s*[=(]\s*['\"]?([^'\" >]{1,30})", page)
    assert len(sources) == len(drawn) >= 6
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert set(drawn) >= {"pareto", "histograms", "costs", "pca", "sheet", "ordinary"}
    rivals_page.write(comparison, drawn, tmp_path)
    kept = json.loads((tmp_path / "rivals.json").read_text())
    assert kept["rows"] == comparison["rows"]
    assert rivals_page.page(kept, kept["figures"]) == (tmp_path / "rivals.md").read_text()


@pytest.mark.slow
def test_the_command_line_from_prompts_to_report(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {
        "--model": workspace / "model",
        "--prompts": workspace / "prompts.csv",
        "--references": workspace / "references",
        "--steps": 2,
        "--methods": "lower guidance",
        "--out": tmp_path / "out",
    }
    words = ["bench", "--quick", *(str(word) for pair in given.items() for word in pair)]
    assert main(words) == 0
    assert "report in" in capsys.readouterr().out
    comparison = json.loads((tmp_path / "out" / "rivals.json").read_text())
    assert set(comparison["methods"]) == {"none", "lower guidance"}
    assert comparison["command"].startswith(
        "steerclear bench --quick --methods 'lower guidance' --steps 2 --model "
    )
    assert main(words) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0


def test_the_command_line_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["--suite", "laion"], "no suite 'laion'"),
        (["--model", "x"], "go together"),
        (["--methods", "nope"], "no method 'nope'"),
        (["--processes", "0"], "--processes 0"),
    ):
        assert main(["bench", "--out", str(tmp_path / "out"), *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_published_page_says_what_its_json_says() -> None:
    docs = Path(__file__).parents[3] / "docs" / "benchmarks"
    comparison = json.loads((docs / "rivals.json").read_text())
    assert rivals_page.page(comparison, comparison["figures"]) == (docs / "rivals.md").read_text()
    assert all((docs / f"rivals-{name}.png").is_file() for name in comparison["figures"])


@pytest.mark.slow
def test_the_quick_comparison_of_all_methods_runs_through(tmp_path: Path) -> None:
    from steerclear_lab.bench.baselines import METHODS as EVERYTHING

    assert main(["bench", "--quick", "--out", str(tmp_path / "out")]) == 0
    comparison = json.loads((tmp_path / "out" / "rivals.json").read_text())
    assert set(comparison["methods"]) == set(EVERYTHING)
    assert comparison["methods"]["none"]["memorized"]["memorized_rate"]["value"] == 1
    ours = comparison["methods"]["steerclear"]
    assert ours["memorized"]["memorized_rate"]["value"] == 0
    assert ours["ordinary"]["identical_rate"]["value"] == 1


@pytest.mark.slow
def test_every_example_in_the_help_runs(
    workspace: Path,
    suite: Suite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    least = Plan(validation=0, memorized=1, template=0, ordinary=1, seeds=1, trials=1)
    for size in ("QUICK", "FULL"):
        monkeypatch.setattr(f"steerclear_lab.bench.harness.{size}", least)
    monkeypatch.setattr(
        "steerclear_lab.bench.suites.emoji", lambda **sizes: suite
    )  # the tiny model in the embedded one's place
    monkeypatch.chdir(tmp_path)
    for here, there in (("sd14", "model"), ("memorized.csv", "prompts.csv"), ("originals", "references")):
        Path(here).symlink_to(workspace / there)
    assert main(["bench", "--help"]) == 0
    lines = [
        line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  steerclear ")
    ]
    assert len(lines) == 4
    for i, line in enumerate(lines):
        words = shlex.split(line)[1:]
        if "--experiment" in words:
            continue  # tests/bench/test_experiments.py runs these
        words[words.index("--out") + 1] += str(i)  # each begins anew
        assert main(words) == 0, (line, capsys.readouterr().err)
