"""`steerclear bench`: every method of preventing copies, side by side, and a report."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerclear.cli import recipe as recipes
from steerclear.cli.inputs import OK, check_folder, number, one_line_errors, progress, whole
from steerclear.errors import ConfigError, InputError

if TYPE_CHECKING:
    from steerclear_lab.bench.harness import BenchTask, Plan, TaskResult
    from steerclear_lab.bench.suites import Suite

NEEDED = ("scipy", "matplotlib", "torchmetrics")


def bench(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where the report goes, and the run's rows.")
    ] = Path("bench"),
    suite: Annotated[
        str, typer.Option(metavar="NAME", help="emoji: the embedded model and its prompts.")
    ] = "emoji",
    methods: Annotated[
        str,
        typer.Option(
            metavar="LIST", help="Commas between names; the plain pipeline is always there. Default: all."
        ),
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A few prompts, minutes on two cores.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped.")] = False,
    seed: Annotated[
        int, typer.Option(parser=whole, metavar="N", help="Of splits, choices and pictures.")
    ] = 0,
    steps: Annotated[int, typer.Option(parser=whole, metavar="N", help="Denoising steps.")] = 25,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Another Stable Diffusion model, with --prompts and --references."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of that model: .txt, .jsonl, .csv with ';' or .parquet."),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures that the model must not reproduce; urls: fetched from where the prompt file says.",
        ),
    ] = None,
    sscd: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="SSCD's TorchScript file, for one more judge of copies."),
    ] = None,
    guidance: Annotated[
        float, typer.Option(parser=number, metavar="X", help="Guidance scale of that model.")
    ] = 7.5,
    memorized: Annotated[
        int | None,
        typer.Option(parser=whole, metavar="N", help="Memorized prompts to test on; default: the plan's."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(parser=whole, metavar="N", help="Pictures for each of them; default: the plan's."),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            parser=whole, metavar="N", help="Make the pictures in so many processes, which share the cores."
        ),
    ] = 1,
    experiment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of comparing, one of: prevention, quality, triggers, scalability, stability.",
        ),
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A finished comparison, from which prevention and quality are read."
        ),
    ] = None,
) -> None:
    """Compare all methods of preventing copies: tuned alike, judged by what none of them optimises.

    Writes DIR/rivals.json (every number, its seeds, the environment), DIR/rivals.html (one file, opens without a network),
    DIR/rivals.md with its pictures, and DIR/rows.jsonl, from which --resume goes on.
    With --experiment, writes DIR/NAME.json, NAME.md and NAME.png instead, and DIR/experiments.md with the sections of all of them;
    --memorized is then the number of prompts. Needs: pip install "steerclear[bench]"

    \b
    steerclear bench --quick --out bench
    steerclear bench --methods "wen, amg, spell, steerclear" --out bench
    steerclear bench --model sd14 --prompts memorized.csv --references originals --out bench-sd14
    steerclear bench --experiment triggers --processes 2 --out bench-triggers
    """
    with one_line_errors("stopped: what was made is kept; the same command with --resume goes on"):
        _check(out, suite, model, prompts, references, processes)
        if experiment is not None or rows is not None:
            if experiment is None or methods or model is not None or resume:
                raise InputError(
                    "--experiment has its own model and methods, and is not resumed; --rows goes with it alone"
                )
            from steerclear_lab.bench.experiments import common, report

            report.run(experiment, common.Options(out, seed, steps, processes, quick, memorized, seeds, rows))
            typer.echo(f"report in {out}: {experiment}.md, {experiment}.json, {experiment}.png")
            raise typer.Exit(OK)
        from steerclear_lab.bench.baselines import METHODS, named
        from steerclear_lab.bench.harness import FULL, PLAIN, QUICK, count, run
        from steerclear_lab.bench.notebook import Notebook

        asked = [name.strip() for name in methods.split(",") if name.strip()]
        chosen = named([PLAIN, *asked] if asked else list(METHODS))
        plan = replace(QUICK if quick else FULL, seed=seed, steps=steps)
        plan = replace(plan, memorized=memorized or plan.memorized, seeds=seeds or plan.seeds)
        given = {} if sscd is None else {"sscd": str(sscd)}
        header = {**given, "suite": suite, "model": model, "prompts": str(prompts), "references": str(references),
                  "guidance": guidance, "methods": list(chosen), "plan": asdict(plan)}  # fmt: skip
        notebook = Notebook(out, header, resume, processes)
        recipes._hush()
        from steerclear_lab.bench import suites
        from steerclear_lab.bench.workers import Workers

        build: Callable[[], Suite]
        if model is None:
            build = partial(
                suites.emoji,
                validation=plan.validation,
                memorized=plan.memorized,
                template=plan.template,
                ordinary=plan.ordinary,
                seed=seed,
                steps=steps,
                work=out,
                sscd=sscd,
            )
        else:
            assert prompts is not None
            assert references is not None
            build = partial(
                suites.folder,
                model=model,
                prompts=prompts,
                pictures=references,
                work=out,
                validation=plan.validation,
                most=max(plan.memorized, plan.ordinary),
                seed=seed,
                steps=steps,
                guidance=guidance,
                sscd=sscd,
            )
        setting = build()
        for name, reason in setting.missing:
            typer.echo(f"no reference picture from {name}: {reason}", err=True)
        workers = Workers(partial(_answering, build), processes) if processes > 1 else nullcontext()
        with workers as maker, progress("comparing", count(setting, chosen, plan)) as advance:
            settled = run(
                suite=setting, methods=chosen, plan=plan, notebook=notebook, advance=advance, make=maker
            )
        from steerclear_lab.bench import rivals_page, rivals_report
        from steerclear_lab.bench.summary import document, picture_features

        features = picture_features(setting, notebook)
        words = _words(suite if model is None else "", asked, quick, plan, memorized, seeds, processes)
        if model is not None:
            words += ["--model", model, "--prompts", str(prompts), "--references", str(references)]
            words += ["--guidance", f"{guidance:g}"]
        words += [] if sscd is None else ["--sscd", str(sscd)]
        figures = document(
            suite=setting,
            chosen=settled,
            plan=plan,
            notebook=notebook,
            command=shlex.join(["steerclear", "bench", *words]),
            features=features,
        )
        drawn = rivals_report.write(figures, setting, notebook, features, out)
        rivals_page.write(figures, drawn, out)
    typer.echo(f"report in {out}: rivals.html, rivals.md, rivals.json")
    raise typer.Exit(OK)


def _answering(build: Callable[[], Suite]) -> Callable[[BenchTask], TaskResult]:
    """In a process of the run: what answers its tasks."""
    from steerclear_lab.bench.harness import task_runner

    recipes._hush()
    return task_runner(build)


def _words(
    suite: str, asked: list[str], quick: bool, plan: Plan, memorized: int | None, seeds: int | None, processes: int
) -> list[str]:  # fmt: skip
    """The options that the figures depend on, as they are typed."""
    words = [*(["--suite", suite] if suite else []), *(["--quick"] if quick else [])]
    given = {
        "--methods": ", ".join(asked), "--seed": plan.seed, "--steps": plan.steps if plan.steps != 25 else None,
        "--memorized": memorized, "--seeds": seeds, "--processes": processes if processes != 1 else None,
    }  # fmt: skip
    return words + [word for name, value in given.items() if value for word in (name, str(value))]


def _check(
    out: Path, suite: str, model: str | None, prompts: Path | None, references: Path | None, processes: int
) -> None:
    from importlib.util import find_spec

    check_folder(out)
    if processes < 1:
        raise InputError(f"--processes {processes} would make nothing; give 1 or more")
    if suite != "emoji":
        raise InputError(f"there is no suite {suite!r}; there is emoji, and --model for a model of your own")
    if (model, prompts, references) != (None, None, None) and None in (model, prompts, references):
        raise InputError("--model, --prompts and --references go together: give all three, or none")
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"the comparison needs {missing[0]}; run: pip install 'steerclear[bench]'")
