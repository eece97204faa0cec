"""The figures of the comparison, drawn by matplotlib and Pillow, as PNG bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from steerclear.plots import CLEAN, COPIES, LINE
from steerclear_lab.bench.rivals_tables import OURS

THRESHOLD = 0.1  # the paper's distance


def pareto(methods: Mapping[str, Any]) -> bytes:
    """Memorized rate against alignment lost on memorized prompts.

    The area of a dot is its cost; a cross is a method that handed out nothing.

    Args:
        methods: figures by method, as the document has them.
    """
    figure = drawing(9, 6)
    panel = figure.subplots()
    labels: dict[tuple[float, float], list[tuple[float, float, str]]] = {}
    for name, figures in methods.items():
        memorized = figures["memorized"]
        loss, rate = memorized["alignment_loss"]["value"], memorized["memorized_rate"]["value"]
        colour = COPIES if name == OURS else CLEAN
        size = 40 * memorized["nfe_ratio"]["median"]
        if loss is None:
            panel.scatter([0], [rate], s=60, marker="x", color=LINE)
        else:
            panel.scatter([loss], [rate], s=size, color=colour, alpha=0.6, edgecolors=LINE)
        place = (round((loss or 0) * 8) / 8, round(rate * 20) / 20)
        suffix = " (nothing handed out)" if loss is None else ""
        labels.setdefault(place, []).append((loss or 0, rate, name + suffix))
    for neighbours in labels.values():  # their names are one block beside them
        right = max(neighbours)
        panel.annotate(
            "\n".join(name for _, _, name in neighbours),
            right[:2],
            xytext=(9, 0),
            textcoords="offset points",
            fontsize=7,
            va="center" if right[1] > 0.2 else "bottom",
        )
    panel.set(
        xlabel="alignment lost (CLIP cosine, plain − method)", ylabel="memorized rate", ylim=(-0.04, 1.3)
    )
    return png(figure)


def histograms(distances: Mapping[str, Sequence[float]], plain_distances: Sequence[float]) -> bytes:
    """Pixel L2 to the nearest protected picture, a panel per method above the plain pipeline's, with the 0.1
    line.

    Args:
        distances: in [0, 1], by method.
        plain_distances: in [0, 1], of the plain pipeline.
    """
    columns = min(4, len(distances))
    lines = -(-len(distances) // columns)
    figure = drawing(3 * columns, 1.9 * lines)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    bins = [i / 50 for i in range(26)]
    for panel, (name, values) in zip(panels, distances.items(), strict=False):
        panel.hist(plain_distances, bins, color=CLEAN, alpha=0.5, label="plain")
        panel.hist(values, bins, color=COPIES, alpha=0.6, label=name)
        panel.axvline(THRESHOLD, color=LINE, linestyle="--", linewidth=0.8)
        panel.set_title(f"{name} ({len(values)} pictures)", fontsize=8)
        panel.tick_params(labelsize=7)
    for panel in panels[len(distances) :]:
        panel.set_axis_off()
    figure.supxlabel("pixel L2; blue: the plain pipeline, red: the method", fontsize=8)
    return png(figure)


def costs(methods: Mapping[str, Any]) -> bytes:
    """NFE and wall time as multiples of the plain pipeline's: medians, with a line to the 95th percentile.

    Args:
        methods: figures by method, as the document has them.
    """
    figure = drawing(8, 0.3 * len(methods) + 1)
    left, right = figure.subplots(1, 2, sharey=True)
    names = list(methods)[::-1]
    colours = [COPIES if name == OURS else CLEAN for name in names]
    for panel, key in ((left, "nfe_ratio"), (right, "wall_ratio")):
        ratios = [methods[name]["memorized"][key] for name in names]
        panel.barh(names, [ratio["median"] for ratio in ratios], color=colours, alpha=0.7)
        for y, ratio in enumerate(ratios):
            panel.plot([ratio["median"], ratio["p95"]], [y, y], color=LINE, linewidth=1, marker="|")
        panel.axvline(1, color=LINE, linestyle=":", linewidth=0.8)
        panel.set_xlabel(key.replace("_", " ") + ", median and p95", fontsize=8)
        panel.tick_params(labelsize=7)
    return png(figure)


def projection(groups: Mapping[str, Tensor], flatten: Callable[[Tensor], Tensor]) -> bytes:
    """CLIP embeddings of several groups in two dimensions.

    Args:
        groups: (n, D) by name.
        flatten: (n, D) → (n, 2), of all groups together.
    """
    flat = flatten(torch.cat(list(groups.values())))
    points = torch.split(flat, [len(g) for g in groups.values()])
    figure = drawing(7, 5.5)
    panel = figure.subplots()
    markers = {
        "ordinary pictures": ("#cccccc", ".", 12),
        "protected": (LINE, "*", 90),
        "plain": (CLEAN, "o", 22),
    }
    for (name, _), xy in zip(groups.items(), points, strict=True):
        colour, marker, size = markers.get(name, (COPIES, "^", 26))
        panel.scatter(
            xy[:, 0], xy[:, 1], c=colour, marker=marker, s=size, alpha=0.75, label=name, linewidths=0.3
        )
    panel.legend(fontsize=8)
    panel.set(xticks=[], yticks=[])
    return png(figure)


def pca(points: Tensor) -> Tensor:
    """(n, D) → (n, 2): the first two principal components, the largest weight of each positive."""
    centred = (points - points.mean(0)).double()
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    flat: Tensor = centred @ (axes * largest.sign()).T
    return flat


def umap(points: Tensor) -> Tensor | None:
    """(n, D) → (n, 2) by UMAP; None without umap-learn (the extra `umap`), or with too few points."""
    if find_spec("umap") is None or len(points) < 20:
        return None
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that a seed costs it its threads
        from umap import UMAP

        flat = UMAP(n_components=2, metric="cosine", random_state=0, n_jobs=1).fit_transform(points.numpy())
    return torch.from_numpy(flat)


def sheet(columns: Sequence[str], lines: Sequence[Sequence[Image.Image | None]], side: int = 64) -> bytes:
    """A contact sheet.

    Args:
        columns: the names of the methods.
        lines: a row per prompt, a picture per method; None is drawn grey.
        side: of a picture, in pixels.
    """
    top, gap = 100, 2
    cell = side + gap
    canvas = Image.new("RGB", (len(columns) * cell, top + len(lines) * cell), "white")
    for x, name in enumerate(columns):
        label = Image.new("RGB", (top, 14), "white")
        ImageDraw.Draw(label).text((2, 1), name, fill="black")
        canvas.paste(label.rotate(90, expand=True), (x * cell + side // 2 - 7, 0))
    empty = Image.new("RGB", (side, side), "lightgrey")
    for y, line in enumerate(lines):
        for x, picture in enumerate(line):
            shown = empty if picture is None else picture.resize((side, side))
            canvas.paste(shown, (x * cell, top + y * cell))
    file = BytesIO()
    canvas.quantize(256).save(file, "PNG", optimize=True)
    return file.getvalue()


def drawing(width: float, height: float) -> Any:
    """An empty figure of this size in inches."""
    from matplotlib.figure import Figure  # not pyplot, which keeps global state and may open windows

    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Any) -> bytes:
    """A figure as PNG bytes, the same for the same figure."""
    file = BytesIO()
    figure.savefig(file, dpi=110, metadata={"Software": None})
    return file.getvalue()
