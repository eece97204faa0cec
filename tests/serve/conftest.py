"""One server for most tests: a tiny model, one protected picture, and a key for each scope."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import openai
import pytest
from PIL import Image
from serve_doubles import GUIDANCE, ITEM, STEPS, RunningServer, prepare

from steerclear.records import Records


class Keys(NamedTuple):
    """Secrets, by scope."""

    generate: str
    review: str
    admin: str
    everything: str


class Served(NamedTuple):
    """A server under test.

    Attributes:
        server: its process.
        keys: of its database.
        records: its database.
        clients: the official client, by key.
    """

    server: RunningServer
    keys: Keys
    records: Records
    clients: dict[str, openai.OpenAI]

    @property
    def url(self) -> str:
        return self.server.url

    def client(self, key: str | None = None) -> openai.OpenAI:
        """The official client, which sends nothing twice; one for each key."""
        secret = key or self.keys.generate
        if secret not in self.clients:
            self.clients[secret] = openai.OpenAI(
                base_url=f"{self.url}/v1", api_key=secret, max_retries=0, timeout=60
            )
        return self.clients[secret]

    def http(self, key: str | None = None) -> httpx2.Client:
        """A plain client."""
        secret = key or self.keys.generate
        headers = {"authorization": f"Bearer {secret}"}
        # reading all certificates takes longer than most requests here
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60, verify=False)


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model`, `art` and `library`, made once."""
    folder = tmp_path_factory.mktemp("served")
    prepare(folder)
    return folder


@pytest.fixture(scope="session")
def options(assets: Path) -> tuple[object, ...]:
    """Of every server: its model, its library and how pictures are made."""
    return (
        *("--model", assets / "model", "--library", assets / "library"),
        *("--steps", STEPS, "--guidance", GUIDANCE, "--ladder", "resample"),
    )


@pytest.fixture(scope="session")
def served(assets: Path, options: tuple[object, ...]) -> Iterator[Served]:
    """A server that most tests share."""
    records = Records.open(f"sqlite:///{assets / 'records.db'}")
    scopes = {scope: (scope,) for scope in ("generate", "review", "admin")}
    scopes["everything"] = ("generate", "review", "admin")
    keys = Keys(**{name: records.keys.add(name, names)[1] for name, names in scopes.items()})
    clients: dict[str, openai.OpenAI] = {}
    server = RunningServer(
        assets / "server.log",
        *options,
        *("--database", assets / "records.db", "--queue", 3, "--most-bytes", 2**22, "--most-steps", 999),
        *("--filter", "serve_doubles:Broken"),
    )
    try:
        yield Served(server.until_ready(), keys=keys, records=records, clients=clients)
    finally:
        for client in clients.values():
            client.close()
        records.close()
        server.stop()


@pytest.fixture
def protected(assets: Path) -> Path:
    """The file of the protected picture."""
    return assets / "art" / f"{ITEM}.png"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The file of some picture."""
    path = tmp_path / "picture.png"
    Image.linear_gradient("L").resize((64, 64)).convert("RGB").save(path)
    return path
