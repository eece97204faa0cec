"""The comparison as one HTML file that opens from disk: nothing in it comes from a network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from steerclear.filters.pixel import pixel_l2
from steerclear.pixels import fit, to_image, to_tensor
from steerclear_lab.bench import rivals_plots as plots
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.harness import PLAIN
from steerclear_lab.bench.notebook import Notebook
from steerclear_lab.bench.rivals_page import CAPTIONS, stale_notes
from steerclear_lab.bench.rivals_tables import OURS, Table, notes, settings, tables, written_settings
from steerclear_lab.bench.suites import Suite
from steerclear_lab.bench.summary import open_rgb, request_key
from steerclear_lab.pages import render

MOST_PROMPTS = 16  # on a contact sheet


def write(
    document: Mapping[str, Any],
    suite: Suite,
    notebook: Notebook,
    features: dict[str, Tensor],
    out: Path,
) -> dict[str, bytes]:
    """Write `rivals.html`.

    Args:
        document: of the comparison, with its rows.
        suite: what was compared on.
        notebook: with the pictures.
        features: by row key, the judge's embedding (D,) of the picture.
        out: a folder.

    Returns:
        The figures that it shows, PNG bytes by name.
    """
    drawn = figures(document, suite, notebook, features=features)
    (out / "rivals.html").write_text(page(document, drawn), encoding="utf-8")
    return drawn


def figures(
    document: Mapping[str, Any], suite: Suite, notebook: Notebook, *, features: dict[str, Tensor]
) -> dict[str, bytes]:
    """The figures of the comparison, PNG bytes by name; the arguments are those of `write`."""
    methods = {name: m for name, m in document["methods"].items() if m["memorized"] is not None}
    rows = [r for r in document["rows"] if r["phase"] == "test" and r["method"] in document["methods"]]
    kinds = {kind: [r for r in rows if r["kind"] == kind] for kind in ("memorized", "ordinary")}
    drawn: dict[str, bytes] = {}
    if methods:
        handed_out = {
            name: [r for r in kinds["memorized"] if r["method"] == name and r["handed_out"]]
            for name in methods
        }
        distances = {name: [r["pixel_l2"] for r in group] for name, group in handed_out.items()}
        plain_distances = distances.pop(PLAIN)
        drawn["pareto"] = plots.pareto(methods)
        if distances:
            drawn["histograms"] = plots.histograms(distances, plain_distances)
        drawn["costs"] = plots.costs(methods)
        drawn |= projections(suite, handed_out, features)
        drawn["sheet"] = contact_sheet(
            suite, list(methods), kinds["memorized"], notebook=notebook, protected=True
        )
    if kinds["ordinary"]:
        names = list(document["methods"])
        drawn["ordinary"] = contact_sheet(suite, names, kinds["ordinary"], notebook=notebook, protected=False)
    return drawn


def projections(
    suite: Suite, handed_out: dict[str, list[Row]], features: dict[str, Tensor]
) -> dict[str, bytes]:
    """Ordinary, protected, plain and our pictures in two dimensions.

    Args:
        suite: what was compared on.
        handed_out: rows by method. Where ours handed out nothing, the first method that did takes its place.
        features: by row key, the judge's embedding (D,) of the picture.
    """
    others = (name for name in handed_out if name != PLAIN and handed_out[name])
    shown = OURS if handed_out.get(OURS) else next(others, PLAIN)
    with torch.no_grad():
        groups = {"ordinary pictures": suite.clip(suite.ordinary), "protected": suite.clip(suite.protected)}
    for name, title in ((PLAIN, "plain"), (shown, shown)):
        if handed_out[name] and title not in groups:
            groups[title] = torch.stack([features[r["key"]] for r in handed_out[name]])
    drawn = {"pca": plots.projection(groups, plots.pca)}
    flat = plots.umap(torch.cat(list(groups.values())))
    if flat is not None:
        drawn["umap"] = plots.projection(groups, lambda points: flat)
    return drawn


def contact_sheet(
    suite: Suite, names: list[str], rows: list[Row], *, notebook: Notebook, protected: bool
) -> bytes:
    """The first seed of each prompt, by every method.

    Args:
        suite: what was compared on.
        names: the methods.
        rows: of the requests, in order.
        notebook: with the pictures.
        protected: whether each row begins with the protected picture.
    """
    columns = [PLAIN, *(name for name in names if name != PLAIN)]
    by_request: dict[Any, dict[str, Row]] = {}
    for row in rows:
        by_request.setdefault(request_key(row), {})[row["method"]] = row
    lines, prompts = list[list[Image.Image | None]](), set[str]()
    for (_, prompt, _), answers in by_request.items():
        if prompt in prompts or len(lines) == MOST_PROMPTS:
            continue
        prompts.add(prompt)
        pictures = [_picture(answers.get(name), notebook) for name in columns]
        lines.append([_protected_beside(suite, pictures[0]), *pictures] if protected else pictures)
    return plots.sheet(["protected", *columns] if protected else columns, lines)


def _picture(row: Row | None, notebook: Notebook) -> Image.Image | None:
    """The picture of a row, if it was handed out."""
    return open_rgb(notebook.picture(row)) if row and row["handed_out"] else None


def _protected_beside(suite: Suite, plain: Image.Image | None) -> Image.Image | None:
    """The protected picture that the plain one is nearest to, by pixels."""
    if plain is None:
        return None
    distance = pixel_l2(fit(to_tensor([plain]), suite.protected.shape[-1]), suite.protected)
    return to_image(suite.protected[int(distance.argmin())])


def page(document: Mapping[str, Any], drawn: Mapping[str, bytes]) -> str:
    """The HTML file. drawn: PNG bytes of the figures, by name."""
    return render(
        "rivals.html.j2",
        {
            "command": document["command"],
            "notes": [*stale_notes(document), *notes(document)],
            "tables": list(tables(document)),
            "figures": [
                {"name": name, "caption": CAPTIONS[name], "base64": b64encode(picture).decode()}
                for name, picture in drawn.items()
            ],
            "settings": settings(document),
            "tuning": _tuning(document),
            "environment": {**document["environment"], **document["plan"]},
            "ours": OURS,
        },
    )


def _tuning(document: Mapping[str, Any]) -> Table:
    """The settings that tuning tried."""
    rows = [
        [
            row["method"],
            written_settings(row["settings"]),
            f"{row['score']:.3f}",
            "✓" if row["chosen"] else "",
        ]
        for row in document["tuning"]
    ]
    return Table("Tuning", ["method", "settings", "score", "chosen"], rows)
