"""`steerclear bench`: every method of preventing copies, side by side, and a report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from steerclear.cli.inputs import check_folder, number, whole_number
from steerclear.cli.options import StepsOption
from steerclear.cli.terminal import OK, one_line_errors, progress, quiet_libraries
from steerclear.errors import InputError

if TYPE_CHECKING:
    from steerclear_lab.bench.harness import BenchTask, Plan, TaskResult
    from steerclear_lab.bench.suites import Suite


def bench(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the report and the run's rows go.")] = Path(
        "bench"
    ),
    suite: Annotated[
        str, typer.Option(metavar="NAME", help="emoji: the embedded model and its prompts.")
    ] = "emoji",
    methods: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Names, separated by commas; the plain pipeline is always there. Default: all.",
        ),
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Only a few prompts: minutes on two cores.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    seed: Annotated[
        int, typer.Option(parser=whole_number, metavar="N", help="Decides splits, choices and pictures.")
    ] = 0,
    steps: StepsOption = 25,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Another Stable Diffusion model, with --prompts and --references."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts for that model: .txt, .jsonl, .csv with ';' or .parquet."),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Pictures that the model must not reproduce; `urls` fetches those in the prompt file.",
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
        typer.Option(
            parser=whole_number, metavar="N", help="Memorized prompts to test on; default: the plan's."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            parser=whole_number, metavar="N", help="Pictures for each of them; default: the plan's."
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            parser=whole_number, metavar="N", help="Make the pictures in N processes, which share the cores."
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
    """Compare all methods of preventing copies.

    They are tuned alike, and judged by what none of them optimises.

    Writes DIR/rivals.json (every number, its seeds, the environment), DIR/rivals.html (one file, opens
    without a network), DIR/rivals.md with its pictures, and DIR/rows.jsonl, from which --resume continues.
    With --experiment, writes DIR/NAME.json, NAME.md and NAME.png instead, and DIR/experiments.md with the
    sections of all of them; --memorized is then the number of prompts.

    \b
    steerclear bench --quick --out bench
    steerclear bench --methods "wen, amg, spell, steerclear" --out bench
    steerclear bench --model sd14 --prompts memorized.csv --references originals --out bench-sd14
    steerclear bench --experiment triggers --processes 2 --out bench-triggers
    """
    with one_line_errors("stopped: what was made is kept; the same command with --resume continues"):
        _check(out, suite=suite, processes=processes, own_model=(model, prompts, references))
        if experiment is not None or rows is not None:
            if experiment is None or methods or model is not None or resume:
                raise InputError(
                    "--experiment has its own model and methods, and is not resumed; "
                    "--rows goes with it alone"
                )
            from steerclear_lab.bench.experiments import common, report

            options = common.Options(
                out=out,
                seed=seed,
                steps=steps,
                processes=processes,
                quick=quick,
                prompts=memorized,
                seeds=seeds,
                rows=rows,
            )
            report.run(experiment, options)
            typer.echo(f"report in {out}: {experiment}.md, {experiment}.json, {experiment}.png")
            raise typer.Exit(OK)
        from steerclear_lab.bench.baselines import METHODS, named
        from steerclear_lab.bench.harness import FULL, PLAIN, QUICK, count, emoji_suite, run
        from steerclear_lab.bench.notebook import Notebook

        method_names = [name.strip() for name in methods.split(",") if name.strip()]
        chosen = named([PLAIN, *method_names] if method_names else list(METHODS))
        plan = replace(QUICK if quick else FULL, seed=seed, steps=steps)
        plan = replace(plan, memorized=memorized or plan.memorized, seeds=seeds or plan.seeds)
        header = {
            **({} if sscd is None else {"sscd": str(sscd)}),
            "suite": suite,
            "model": model,
            "prompts": str(prompts),
            "references": str(references),
            "guidance": guidance,
            "methods": list(chosen),
            "plan": asdict(plan),
        }
        notebook = Notebook(folder=out, header=header, resume=resume, processes=processes)
        quiet_libraries()
        from steerclear_lab.bench import suites
        from steerclear_lab.bench.workers import Workers

        build: Callable[[], Suite]
        if model is None:
            build = emoji_suite(plan, out, sscd)
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
        words = _words(
            suite=suite if model is None else "",
            methods=method_names,
            quick=quick,
            plan=plan,
            memorized=memorized,
            seeds=seeds,
            processes=processes,
        )
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
        drawn = rivals_report.write(figures, suite=setting, notebook=notebook, features=features, out=out)
        rivals_page.write(figures, drawn, out)
    typer.echo(f"report in {out}: rivals.html, rivals.md, rivals.json")
    raise typer.Exit(OK)


def _answering(build: Callable[[], Suite]) -> Callable[[BenchTask], TaskResult]:
    """In a process of the run: what answers its tasks."""
    from steerclear_lab.bench.harness import task_runner

    quiet_libraries()
    return task_runner(build)


def _words(
    *,
    suite: str,
    methods: Sequence[str],
    quick: bool,
    plan: Plan,
    memorized: int | None,
    seeds: int | None,
    processes: int,
) -> list[str]:
    """The options that the figures depend on, as they are typed."""
    words = [*(["--suite", suite] if suite else []), *(["--quick"] if quick else [])]
    options = {
        "--methods": ", ".join(methods),
        "--seed": plan.seed,
        "--steps": plan.steps if plan.steps != 25 else None,
        "--memorized": memorized,
        "--seeds": seeds,
        "--processes": processes if processes != 1 else None,
    }
    return words + [word for name, value in options.items() if value for word in (name, str(value))]


def _check(
    out: Path, *, suite: str, processes: int, own_model: tuple[str | None, Path | None, Path | None]
) -> None:
    """Refuse options that do not go together. own_model: --model, --prompts and --references."""
    check_folder(out)
    if processes < 1:
        raise InputError(f"--processes {processes} would make nothing; give 1 or more")
    if suite != "emoji":
        raise InputError(f"there is no suite {suite!r}; there is emoji, and --model for a model of your own")
    if any(value is not None for value in own_model) and None in own_model:
        raise InputError("--model, --prompts and --references go together: give all three, or none")
