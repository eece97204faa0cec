"""What `steerclear calibrate` prints: the thresholds, what the filters see, and what they are blind to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from steerclear.cli.terminal import echo, print_table

LIKELY_COPIES = "likely-copies"  # folder of the clean pictures that show a protected one


def print_results(evidence: Mapping[str, Any], out: Path, *, copies_given: bool) -> None:
    """Print the evidence of a calibration for a person.

    Args:
        evidence: of the calibration note.
        out: folder in which figures and likely copies lie.
        copies_given: whether the user gave copies, rather than altered ones standing for them.
    """
    _print_likely_copies(evidence, out)
    _print_thresholds(evidence, "given copies" if copies_given else "altered copies")
    _print_negatives(evidence)
    _print_alterations(evidence)
    _print_blind_spots(evidence)
    echo()
    echo(f"evidence in {out}: calibration.json, histograms.png, roc.png")
    _warn_of_too_few(evidence)


def _print_likely_copies(evidence: Mapping[str, Any], out: Path) -> None:
    count, named = evidence["left_out"], evidence["likely_copies"]
    if not count:
        return
    shows, are, them = ("shows", "is", "it") if count == 1 else ("show", "are", "them")
    echo(
        f"{count} of the clean pictures {shows} a protected picture, it seems, and {are} left out. "
        f"Look at {them}:"
    )
    for number, copy in enumerate(named):
        file = out / LIKELY_COPIES / f"{number}.png"
        echo(f"  {file} shows {copy['matched']!r}: it is {copy['picture']}")
    if count > len(named):
        echo(f"  and {count - len(named)} more")
    echo()


def _print_thresholds(evidence: Mapping[str, Any], copies: str) -> None:
    n = evidence["clean"]
    rows = [
        [
            name,
            f"{row['threshold']:.4f}",
            str(row["exceeding"]),
            _at_most(row["upper"]),
            _percent(row["copies_flagged"]),
        ]
        for name, row in evidence["by_filter"].items()
    ]
    together = [
        "all together",
        "",
        str(evidence["clear_exceeding"]),
        _at_most(evidence["clear_upper"]),
        _percent(evidence["copies_flagged"]),
    ]
    echo(f"Thresholds, from {n} clean pictures. Rates are bounds with 95 % confidence")
    header = ["filter", "threshold", "clean flagged", "false-positive rate", f"{copies} flagged"]
    print_table(header, [*rows, together])
    if evidence["settings"]:
        echo(f"clean pictures were generated at: {_settings(evidence['settings'])}")


def _print_negatives(evidence: Mapping[str, Any]) -> None:
    if count := evidence["negatives"]:
        flagged = evidence["negatives_flagged"]
        echo(
            f"{count} of them reviewers have overruled. They were chosen because they were flagged, so that "
            f"the rates are bounds for such a mixture; at these thresholds {flagged} of them are flagged"
        )


def _print_alterations(evidence: Mapping[str, Any]) -> None:
    rows = []
    for kind, row in evidence["by_alteration"].items():
        best = max(row["by_filter"], key=row["by_filter"].get)
        flagged_by_best = row["by_filter"][best]
        rows.append(
            [
                kind,
                str(row["copies"]),
                str(row["flagged"]),
                _percent(row["flagged"] / row["copies"]),
                f"{best} {flagged_by_best}" if flagged_by_best else "none",
                "; ".join(row["strengths"]),
            ]
        )
    items, altered = evidence["items"], evidence["items_altered"]
    what = "the" if altered == items else f"{altered} of the"
    pictures = "picture" if items == 1 else "pictures"
    echo()
    echo(f"What the filters see: altered copies of {what} {items} protected {pictures}")
    print_table(["alteration", "copies", "flagged", "share", "best filter", "measured at"], rows)


def _print_blind_spots(evidence: Mapping[str, Any]) -> None:
    from steerclear.calibrate import BLIND, blind_to

    shares = blind_to(evidence["by_alteration"])
    if shares:
        # a kind's name may hold a comma
        kinds = "; ".join(f"{kind} ({_percent(share)})" for kind, share in shares.items())
        echo(f"blind to: {kinds}")
    else:
        echo(f"blind to none of these: at least {_percent(BLIND)} of each kind are flagged")
    if unseen := evidence["unrecognisable"]:
        more = f" and {len(unseen) - 10} more" if len(unseen) > 10 else ""
        echo(f"blank, so that `copy` cannot recognise them: {', '.join(unseen[:10])}{more}")
    if plain := evidence["plain"]:
        more = f" and {len(plain) - 10} more" if len(plain) > 10 else ""
        first = ", ".join(plain[:10])
        echo(f"too plain: only nearly unaltered copies are sure to be found of {first}{more}")
    if missed := evidence["mostly_missed"]:
        named = [f"{item} ({_percent(share)})" for item, share in list(missed.items())[:10]]
        more = f" and {len(missed) - 10} more" if len(missed) > 10 else ""
        echo(f"altered copies mostly missed of: {', '.join(named)}{more}")


def _warn_of_too_few(evidence: Mapping[str, Any]) -> None:
    fpr, n = evidence["fpr"], evidence["clean"]
    if all(row["upper"] <= fpr for row in evidence["by_filter"].values()):
        return
    from steerclear.conformal import needed

    echo(
        f"warning: {n} clean pictures are too few to promise {100 * fpr:.2f} %: it takes {needed(fpr)}; "
        "the thresholds flag none of yours",
        err=True,
    )


def _settings(settings: Mapping[str, Any]) -> str:
    """The settings of generated pictures in a line."""
    texts = [f"{text!r}" if text else "none" for text in settings["negative_prompts"]]
    return "; ".join(
        [
            f"steps {', '.join(map(str, settings['steps']))}",
            f"guidance {', '.join(f'{scale:g}' for scale in settings['guidance'])}",
            f"size {', '.join(settings['sizes'])}",
            f"negative prompt {', '.join(texts)}",
            f"samplers {', '.join(settings['schedulers'])}",
        ]
    )


def _percent(share: float) -> str:
    """A share of copies, rounded down: 100 % means all."""
    return f"{math.floor(100 * share + 1e-6)} %"


def _at_most(rate: float) -> str:
    """A bound, rounded up."""
    return f"at most {math.ceil(1e4 * rate - 1e-6) / 100:.2f} %"
