"""The audit fails for a known weakness, and says so where it could not be made."""

from __future__ import annotations

from pathlib import Path

from steerclear_lab import audit

SOUND = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "CVE-2023-47248", "fix_versions": ["3"]}]}
UNKNOWN = {"name": "c", "version": "3", "skip_reason": "Dependency not found on PyPI"}


def test_a_known_weakness_is_named_and_fails() -> None:
    assert audit.verdict([SOUND, WEAK]) == ("pip-audit knows weaknesses of:\nb 2: CVE-2023-47248", 1)


def test_where_the_database_knew_no_package_nothing_was_audited() -> None:
    assert audit.verdict([UNKNOWN, UNKNOWN]) == ("pip-audit was not run: its database is out of reach", 0)


def test_without_weaknesses_it_says_how_many_packages_were_audited() -> None:
    assert audit.verdict([SOUND, UNKNOWN]) == ("pip-audit knows no weakness of 1 of 2 packages", 0)


def test_what_pip_audit_cannot_read_is_said_in_one_line(tmp_path: Path) -> None:
    said, code = audit.audit(str(tmp_path / "nothing.txt"))
    assert said.startswith("pip-audit was not run: ")
    assert code == 0
    assert "\n" not in said
