"""Trains the copy descriptor that judges the sweep of settings.

    python -m steerclear_lab.bench.copy_judge --work copy-judge-work

Resumes from what lies in --work. Needs openclipart's drawings (`apt-get install openclipart-png`, public
domain), scikit-image, and about a quarter of an hour on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from steerclear_lab.assets import COPY_JUDGE
from steerclear_lab.bench.command_line import limit_threads
from steerclear_lab.bench.copy_judge import training
from steerclear_lab.bench.copy_judge.network import save
from steerclear_lab.bench.copy_judge.pictures import PHOTOGRAPHS, kept_pictures


def card(free: int, ordinary: int) -> dict[str, Any]:
    """How the weights are made, to lie beside them.

    Args:
        free: number of drawings and photographs of others.
        ordinary: number of the laboratory's ordinary drawings.
    """
    return {
        "command": "python -m steerclear_lab.bench.copy_judge",
        "pictures": {
            f"openclipart's drawings (public domain) and crops of {', '.join(PHOTOGRAPHS)} of scikit-image": (
                free
            ),
            "the laboratory's ordinary drawings": ordinary,
            "protected pictures": 0,
        },
        "loss": "InfoNCE with an entropy term, as SSCD (Pizzi et al., CVPR 2022)",
        "temperature": training.TEMPERATURE,
        "entropy_weight": training.ENTROPY_WEIGHT,
        "seed": training.SEED,
        "schedule": asdict(training.SCHEDULE),
    }


def main() -> None:
    limit_threads()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("copy-judge-work"), help="folder of the checkpoint")
    parser.add_argument("--weights", type=Path, default=COPY_JUDGE, help="file of the trained weights")
    args = parser.parse_args()
    free, ordinary = kept_pictures(args.work / "pictures.pt")
    save(training.train(free, ordinary, folder=args.work), args.weights)
    text = json.dumps(card(len(free), len(ordinary)), indent=1)
    args.weights.with_name("card.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
