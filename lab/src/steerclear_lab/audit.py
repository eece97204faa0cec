"""Known weaknesses of the pinned packages: python -m steerclear_lab.audit constraints.txt

`pip-audit` asks the advisory database of PyPI. Where that does not answer, as on a machine without network,
nothing was audited; this is said in one line and is no failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SECONDS = 45  # for all of it: `make check` is to stay quick


def audit(constraints: str) -> tuple[str, int]:
    """Audits the packages of a file.

    Args:
        constraints: a file with one `name==version` a line.

    Returns:
        What came out, and the exit code: 1 where a package has a known weakness.
    """
    words = ["-r", constraints, "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pip_audit", *words, "--timeout", "5"],
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        document = json.loads(run.stdout)
    except subprocess.TimeoutExpired:
        return f"pip-audit was not run: its database did not answer within {SECONDS} s", 0
    except ValueError:
        last = (run.stderr.strip() or "it said nothing").splitlines()[-1]
        return f"pip-audit was not run: {last[:200]}", 0
    return verdict(document["dependencies"])


def verdict(packages: list[dict[str, Any]]) -> tuple[str, int]:
    """What pip-audit's report says.

    Args:
        packages: each with its `vulns`, or with `skip_reason` where its database knew nothing of it.
    """
    audited = [package for package in packages if "vulns" in package]
    weak = [package for package in audited if package["vulns"]]
    if weak:
        lines = [
            f"{package['name']} {package['version']}: {', '.join(known['id'] for known in package['vulns'])}"
            for package in weak
        ]
        return "\n".join(["pip-audit knows weaknesses of:", *lines]), 1
    if not audited:
        return "pip-audit was not run: its database is out of reach", 0
    return f"pip-audit knows no weakness of {len(audited)} of {len(packages)} packages", 0


if __name__ == "__main__":
    said, code = audit(sys.argv[1])
    print(said)
    raise SystemExit(code)
