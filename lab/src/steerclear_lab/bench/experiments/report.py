"""An experiment's document, section and figure on disk, and the page of all sections."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from steerclear.errors import InputError
from steerclear_lab.bench.environment import environment, remark
from steerclear_lab.bench.experiments import EXPERIMENTS
from steerclear_lab.bench.experiments.common import Options

PAGE = "experiments.md"


def run(name: str, options: Options) -> dict[str, Any]:
    """Measure, and write `NAME.json`, `NAME.md` and `NAME.png`, and the page of all sections that lie beside them.

    Raises InputError for an experiment that there is not.
    """
    if name not in EXPERIMENTS:
        raise InputError(f"there is no experiment {name!r}; there are: {', '.join(EXPERIMENTS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    found = module(name).measure(options)
    words = ["steerclear", "bench", "--experiment", name, *options.words()]
    if options.rows is not None:
        # elsewhere it lies elsewhere
        words += ["--rows", options.rows.name if options.rows.is_absolute() else options.rows.as_posix()]
    document = {
        "experiment": name, "command": shlex.join(words), "seed": options.seed, "steps": options.steps,
        "environment": environment([options.processes]), **found,
    }  # fmt: skip
    write(document, options.out)
    return document


def write(document: Mapping[str, Any], out: Path) -> None:
    """The files of one experiment, and the page."""
    name = document["experiment"]
    head = json.dumps(document, indent=1) + "\n"
    if "rows" in document:  # a line each, so that changes can be read
        rows = ",\n".join(json.dumps(row) for row in document["rows"])
        head = json.dumps({**{k: v for k, v in document.items() if k != "rows"}, "rows": []}, indent=1)
        head = head.removesuffix("[]\n}") + f"[\n{rows}\n]\n}}\n"
    (out / f"{name}.json").write_text(head)
    (out / f"{name}.png").write_bytes(module(name).figure(document))
    (out / f"{name}.md").write_text(text(document))
    (out / PAGE).write_text(page(out))


def text(document: Mapping[str, Any], level: int = 1) -> str:
    """An experiment as Markdown; level: of its heading."""
    part, name = module(document["experiment"]), document["experiment"]
    env = document.get("source", document)["environment"]
    made = (
        f"Made by `{document['command']}`, every number from [{name}.json]({name}.json): {document['steps']} steps, seed "
        f"{document['seed']}; steerclear {env['steerclear']}, torch {env['torch']}, {env['cores']} cores, {env['processes']} "
        f"process(es)."
    )
    if "source" in document:
        source = document["source"]
        plan = source["plan"]
        by = f" by `{source['command']}`" if source["command"] else ""
        made = (
            f"Made by `{document['command']}`, every number from [{name}.json]({name}.json). The pictures were made{by} in "
            f"{plan['steps']} steps, guidance {source['guidance']:g}, seed {plan['seed']}, by steerclear {env['steerclear']}, torch "
            f"{env['torch']}."
        )
    lines = [f"{'#' * level} {part.TITLE}", "", made, "", *remark(env), *part.section(document), ""]
    return "\n".join([*lines, f"![{name}]({name}.png)", ""])


def page(folder: Path) -> str:
    """All sections whose documents lie in a folder."""
    found = [
        json.loads((folder / f"{n}.json").read_text()) for n in EXPERIMENTS if (folder / f"{n}.json").exists()
    ]
    lines = [
        "# The paper's experiments, again and further",
        "",
        "The experiments and checks that the paper names (arXiv 2408.15450), on the embedded model and the real guard; each is one "
        "command, and every number comes from the document beside it.",
        "",
    ]
    return "\n".join(lines + [text(document, level=2) for document in found])


def module(name: str) -> Any:
    """An experiment's module."""
    return import_module(f"steerclear_lab.bench.experiments.{name}")
