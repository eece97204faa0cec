"""No link of the documentation is broken; links to other hosts are only looked at for their form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docs_pages import DOCS, EVERYTHING, LINK, ROOT, anchors, name_of, prose

EXTERNAL = re.compile(r"https://[a-z0-9.-]+\.[a-z]{2,}(/[\w./~%?=&#+@-]*)?")
OUTSIDE = ("../../src/", "../../lab/")  # of a benchmark's page: docs/hooks.py makes text of such a link


@pytest.mark.parametrize("page", EVERYTHING, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if "://" in target:
            assert EXTERNAL.fullmatch(target), f"{name_of(page)}: {target!r} is no well-formed https address"
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{name_of(page)} links to {target!r}, and there is no {file}"
        assert file.is_relative_to(ROOT), f"{name_of(page)} links to {target!r}, outside of the repository"
        if anchor:
            assert anchor in anchors(file), f"{name_of(page)} links to {target!r}; there is no such heading"


@pytest.mark.parametrize("page", [p for p in EVERYTHING if DOCS in p.parents], ids=name_of)
def test_a_page_of_the_site_links_to_nothing_outside_of_it(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if "://" not in target and not target.startswith(("#", *OUTSIDE)):
            assert (page.parent / target.partition("#")[0]).resolve().is_relative_to(DOCS), (
                f"{name_of(page)}: {target}"
            )
