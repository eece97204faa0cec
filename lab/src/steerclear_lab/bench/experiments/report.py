"""Write an experiment's document, page and figure, and the page of all experiments."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from steerclear.errors import InputError
from steerclear_lab.bench.documents import text as json_text
from steerclear_lab.bench.documents import text_with_row_lines
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.experiments import EXPERIMENTS
from steerclear_lab.bench.experiments.common import Options
from steerclear_lab.pages import render

PAGE = "experiments.md"


def run(name: str, options: Options) -> dict[str, Any]:
    """Measure, and write `NAME.json`, `NAME.md`, `NAME.png` and the page of all experiments beside them.

    Args:
        name: of the experiment.
        options: how it is run.

    Returns:
        The document.

    Raises:
        InputError: for an unknown experiment.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"there is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    measured = module(name).measure(options)
    words = ["steerclear", "bench", "--experiment", name, *options.words()]
    if options.rows is not None:
        # an absolute path would hold on this machine only
        words += ["--rows", options.rows.name if options.rows.is_absolute() else options.rows.as_posix()]
    document = {
        "experiment": name,
        "command": shlex.join(words),
        "seed": options.seed,
        "steps": options.steps,
        "environment": environment([options.processes]),
        **measured,
    }
    write(document, options.out)
    return document


def write(document: Mapping[str, Any], out: Path) -> None:
    """Write the files of one experiment, and the page of all."""
    name = document["experiment"]
    as_json = text_with_row_lines if "rows" in document else json_text
    (out / f"{name}.json").write_text(as_json(document))
    (out / f"{name}.png").write_bytes(module(name).figure(document))
    (out / f"{name}.md").write_text(text(document))
    (out / PAGE).write_text(page(out))


def write_pages(folder: Path) -> None:
    """Write the Markdown pages again, from the documents in a folder."""
    for document in documents(folder):
        (folder / f"{document['experiment']}.md").write_text(text(document))
    (folder / PAGE).write_text(page(folder))


def documents(folder: Path) -> list[dict[str, Any]]:
    """The documents of the experiments in a folder, in the order of EXPERIMENTS."""
    files = [folder / f"{name}.json" for name in EXPERIMENTS]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def text(document: Mapping[str, Any], level: int = 1) -> str:
    """An experiment as Markdown.

    Args:
        document: as `run` returns it.
        level: of its heading.
    """
    experiment = module(document["experiment"])
    env = document.get("source", document)["environment"]
    values = {
        "level": level,
        "title": experiment.TITLE,
        "name": document["experiment"],
        "command": document["command"],
        "source": document.get("source"),
        "environment": env,
        "steps": document["steps"],
        "seed": document["seed"],
        "remark": remark(env),
        "section": experiment.section(document).rstrip("\n"),
    }
    return render("experiment.md.j2", values)


def page(folder: Path) -> str:
    """All experiments whose documents lie in a folder, as one Markdown page."""
    return render(
        "experiments.md.j2", {"sections": [text(document, level=2) for document in documents(folder)]}
    )


def module(name: str) -> Any:
    """The module of an experiment."""
    return import_module(f"steerclear_lab.bench.experiments.{name}")
