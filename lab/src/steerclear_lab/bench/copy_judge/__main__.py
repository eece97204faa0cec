"""Trains the copy descriptor that judges the sweep of settings.

    python -m steerclear_lab.bench.copy_judge --work copy-judge-work

Resumes from what lies in --work. Needs openclipart's drawings (`apt-get install openclipart-png`, public
domain), scikit-image, and about a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from steerclear_lab.assets import COPY_JUDGE
from steerclear_lab.bench.command_line import limit_threads
from steerclear_lab.bench.copy_judge.network import save
from steerclear_lab.bench.copy_judge.pictures import kept_pictures
from steerclear_lab.bench.copy_judge.training import train


def main() -> None:
    limit_threads()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("copy-judge-work"), help="folder of the checkpoint")
    parser.add_argument("--weights", type=Path, default=COPY_JUDGE, help="file of the trained weights")
    args = parser.parse_args()
    free, ordinary = kept_pictures(args.work / "pictures.pt")
    save(train(free, ordinary, folder=args.work), args.weights)


if __name__ == "__main__":
    main()
