"""The comparison as one HTML file that opens from disk: tables, figures as data URIs, nothing from any network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.pixels import to_image
from steerclear_lab.bench import rivals_plots as plots
from steerclear_lab.bench.harness import PLAIN, Notebook, Row
from steerclear_lab.bench.rivals_page import CAPTIONS, chosen, notes, tables
from steerclear_lab.bench.suites import Suite
from steerclear_lab.bench.summary import ask, opened

MOST_LINES = 16  # prompts on a contact sheet
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 12px; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #ddd; padding: .3rem .5rem; text-align: left; white-space: nowrap }
th { position: sticky; top: 0; background: #f4f4f4 } tr.ours { background: #fbeef0; font-weight: 600 }
img { max-width: 100%; image-rendering: auto } pre { background: #f4f4f4; padding: .6rem; overflow-x: auto }
"""


def write(
    found: Mapping[str, Any], suite: Suite, notebook: Notebook, features: dict[str, Tensor], out: Path
) -> dict[str, bytes]:
    """`rivals.html`. Returns the figures that it shows, by name."""
    drawn = figures(found, suite, notebook, features)
    (out / "rivals.html").write_text(page(found, drawn), encoding="utf-8")
    return drawn


def figures(
    found: Mapping[str, Any], suite: Suite, notebook: Notebook, features: dict[str, Tensor]
) -> dict[str, bytes]:
    """PNG bytes by name."""
    methods = {name: m for name, m in found["methods"].items() if m["memorized"] is not None}
    rows = [r for r in found["rows"] if r["phase"] == "test" and r["method"] in found["methods"]]
    kinds = {kind: [r for r in rows if r["kind"] == kind] for kind in ("memorized", "ordinary")}
    drawn: dict[str, bytes] = {}
    if methods:
        out = {
            name: [r for r in kinds["memorized"] if r["method"] == name and r["handed_out"]]
            for name in methods
        }
        drawn["pareto"] = plots.pareto(methods)
        distances = {name: [r["pixel_l2"] for r in mine] for name, mine in out.items() if name != PLAIN}
        if distances:
            drawn["histograms"] = plots.histograms(distances, [r["pixel_l2"] for r in out[PLAIN]])
        drawn["costs"] = plots.costs(methods)
        drawn |= projections(suite, out, features)
        drawn["sheet"] = contact(suite, list(methods), kinds["memorized"], notebook, protected=True)
    if kinds["ordinary"]:
        drawn["ordinary"] = contact(
            suite, list(found["methods"]), kinds["ordinary"], notebook, protected=False
        )
    return drawn


def projections(suite: Suite, out: dict[str, list[Row]], features: dict[str, Tensor]) -> dict[str, bytes]:
    """Originals, plain pictures and those of the last-named best method, in two dimensions."""
    best = plots.OURS if out.get(plots.OURS) else next((n for n in out if n != PLAIN and out[n]), PLAIN)
    with torch.no_grad():
        groups = {"ordinary pictures": suite.clip(suite.ordinary), "protected": suite.clip(suite.protected)}
    for name, title in ((PLAIN, "plain"), (best, best)):
        if out[name] and title not in groups:
            groups[title] = torch.stack([features[r["key"]] for r in out[name]])
    drawn = {"pca": plots.projection(groups, plots.pca)}
    flat = plots.umap(torch.cat(list(groups.values())))
    if flat is not None:
        drawn["umap"] = plots.projection(groups, lambda points: flat)
    return drawn


def contact(suite: Suite, names: list[str], rows: list[Row], notebook: Notebook, protected: bool) -> bytes:
    """The first seed of each prompt, by every method."""
    columns = [PLAIN, *(n for n in names if n != PLAIN)]
    by_request: dict[Any, dict[str, Row]] = {}
    for row in rows:
        by_request.setdefault(ask(row), {})[row["method"]] = row
    lines, prompts = list[list[Image.Image | None]](), set[str]()
    for (_, prompt, _), answers in by_request.items():
        if prompt in prompts or len(lines) == MOST_LINES:
            continue
        prompts.add(prompt)
        line: list[Image.Image | None] = []
        for name in columns:
            made = answers.get(name)
            line.append(opened(notebook.picture(made)) if made and made["handed_out"] else None)
        lines.append([_original(suite, line[0]), *line] if protected else line)
    return plots.sheet(["protected", *columns] if protected else columns, lines)


def _original(suite: Suite, plain: Image.Image | None) -> Image.Image | None:
    """The protected picture that the plain one is nearest to, by pixels."""
    if plain is None:
        return None
    from steerclear.filters.pixel import pixel_l2
    from steerclear.pixels import fit, to_tensor

    distance = pixel_l2(fit(to_tensor([plain]), suite.protected.shape[-1]), suite.protected)
    return to_image(suite.protected[int(distance.argmin())])


def page(found: Mapping[str, Any], drawn: Mapping[str, bytes]) -> str:
    """The whole file."""
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'><title>Every rival, side by side</title>",
        f"<style>{STYLE}</style><h1>Every rival, side by side</h1><pre>{escape(found['command'])}</pre>",
        *(f"<p>{escape(note.replace('*', ''))}</p>" for note in notes(found)),
    ]
    for title, head, lines in tables(found):
        parts.append(f"<h2>{escape(title)}</h2>{_table(head, lines)}")
    for name, picture in drawn.items():
        uri = "data:image/png;base64," + b64encode(picture).decode()
        parts.append(f"<h2>{escape(CAPTIONS[name])}</h2><img alt='{name}' src='{uri}'>")
    tried = [
        [
            t["method"],
            ", ".join(f"{k} {v}" for k, v in t["settings"].items()),
            f"{t['score']:.3f}",
            "✓" if t["chosen"] else "",
        ]
        for t in found["tuning"]
    ]
    parts.append(f"<h2>Settings</h2>{_table(['method', 'settings', 'source'], chosen(found))}")
    parts.append(f"<h2>Tuning</h2>{_table(['method', 'settings', 'score', 'chosen'], tried)}")
    environment = "\n".join(f"{k}: {v}" for k, v in {**found["environment"], **found["plan"]}.items())
    parts.append(f"<h2>Environment</h2><pre>{escape(environment)}</pre></html>")
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join(
        f"<tr{' class=ours' if row[0] == plots.OURS else ''}>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"
