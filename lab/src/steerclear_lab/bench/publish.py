"""Writes the pages of docs/benchmarks again from their committed documents; nothing is measured.

    python -m steerclear_lab.bench.publish docs/benchmarks
    python -m steerclear_lab.bench.publish --stamp docs/benchmarks

A document records a fingerprint of the source that made its pictures, and its page says so where the source
has changed since. With --stamp, the present fingerprint is written into the documents first. Use it only
after a change that was shown to leave the pictures bit-identical, such as moved or renamed code: compare the
pictures of a few dozen requests before and after the change. Otherwise measure again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steerclear_lab.bench import (
    details,
    documents,
    early,
    guarded_size_page,
    main_job,
    memorization,
    optimisers,
    preferring,
    realsize_page,
    rivals_page,
    rungs,
    scale,
    serving,
    subjects,
    thresholds,
)
from steerclear_lab.bench.beyond.__main__ import page as beyond_page
from steerclear_lab.bench.command_line import OUT
from steerclear_lab.bench.copy_detection import page as copy_detection_page
from steerclear_lab.bench.documents import Row
from steerclear_lab.bench.environment import source_fingerprint
from steerclear_lab.bench.experiments import EXPERIMENTS, report
from steerclear_lab.bench.sweep import page as sweep_page
from steerclear_lab.emoji import card


@dataclass(frozen=True)
class PublishedPage:
    """A page of docs/benchmarks.

    Attributes:
        write: the page, given its document.
        depends_on_source: whether the source that makes and judges pictures decides its figures.
    """

    write: Callable[[Row], str]
    depends_on_source: bool


# the pages that have a document of the same name beside them
PAGES = {
    "beyond": PublishedPage(beyond_page, depends_on_source=True),
    "details": PublishedPage(details.page, depends_on_source=True),
    "early": PublishedPage(early.page, depends_on_source=True),
    "main-job": PublishedPage(main_job.page, depends_on_source=True),
    "memorization": PublishedPage(memorization.page, depends_on_source=True),
    "optimisers": PublishedPage(optimisers.page, depends_on_source=True),
    "preferring": PublishedPage(preferring.page, depends_on_source=True),
    "rivals": PublishedPage(lambda d: rivals_page.page(d, d["figures"]), depends_on_source=True),
    "rungs": PublishedPage(rungs.page, depends_on_source=True),
    "subjects": PublishedPage(subjects.page, depends_on_source=True),
    "sweep": PublishedPage(sweep_page.page, depends_on_source=True),
    **{name: PublishedPage(report.text, depends_on_source=True) for name in EXPERIMENTS},
    # finished pictures, altered: no guard makes them
    "copy-detection": PublishedPage(
        lambda d: copy_detection_page.page(d, ["embedded", "stamps"]), depends_on_source=False
    ),
    # time and memory of architectures with random weights
    "guarded-size": PublishedPage(lambda d: guarded_size_page.page(d["rows"]), depends_on_source=False),
    "realsize": PublishedPage(lambda d: realsize_page.page(d["rows"]), depends_on_source=False),
    # plain pictures of the model, by diffusers alone
    "recipe": PublishedPage(card.page, depends_on_source=False),
    # search among synthetic vectors
    "scale": PublishedPage(scale.page, depends_on_source=False),
    # time of requests, and whether their pictures are the guard's
    "serving": PublishedPage(serving.page, depends_on_source=False),
}


def pages(folder: Path) -> dict[str, str]:
    """The text of every page, by name, from the documents that lie in a folder.

    Beside `PAGES` these are the calibration, whose document lies in the laboratory's assets, and the page of
    all experiments.
    """
    texts = {name: page.write(documents.read(folder / f"{name}.json")) for name, page in PAGES.items()}
    texts["calibration"] = thresholds.page(documents.read(thresholds.CALIBRATION))
    texts["experiments"] = report.page(folder)
    return texts


def stamp(folder: Path, source: str) -> None:
    """Write a fingerprint of the source into every document in a folder whose figures the source decides."""
    for name, page in PAGES.items():
        if page.depends_on_source:
            documents.stamp(folder / f"{name}.json", source)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=OUT, help="of the documents and pages")
    parser.add_argument(
        "--stamp",
        action="store_true",
        help="record the present source in the documents; only where pictures were shown to be bit-identical",
    )
    args = parser.parse_args()
    if args.stamp:
        stamp(args.folder, source_fingerprint())
    for name, text in pages(args.folder).items():
        (args.folder / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
