"""Visitors of the page: plain clients for every key, and a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


class Visit:
    """A session of the page without a browser: cookies, and the token of each form."""

    def __init__(self, url: str, key: str | None) -> None:
        self.http = httpx2.Client(base_url=url, timeout=60, follow_redirects=True)
        if key is not None:
            self.login = self.http.post("/login", data={"key": key})

    def get(self, path: str) -> httpx2.Response:
        return self.http.get(path)

    @property
    def token(self) -> str:
        return re.search('name="csrf" content="([^"]+)"', self.get("/health").text)[1]

    def post(self, path: str, fields: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        """Send a form as the page would."""
        return self.http.post(path, data={"csrf": self.token, **(fields or {})}, **options)


@pytest.fixture
def visit(served) -> Iterator[Any]:
    """Makes a visit with one of the keys, by the name of its scope."""
    visits = []

    def begin(scope: str | None = "everything") -> Visit:
        visits.append(Visit(served.url, None if scope is None else getattr(served.keys, scope)))
        return visits[-1]

    yield begin
    for each in visits:
        each.http.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Debian's Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}; apt install chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()
