"""A private PostgreSQL for tests: a cluster in a temporary folder, reached by a Unix socket alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


def missing() -> str | None:
    """Why there can be no cluster here; None where there can."""
    if not INSTALLED:
        return "PostgreSQL is not installed: apt install postgresql"
    if os.getuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL does not run as root, and there is no runuser"
    return None


@contextmanager
def cluster() -> Iterator[str]:
    """Yields the folder of the socket of a running cluster; its superuser is "postgres"."""
    folder = Path(tempfile.mkdtemp(prefix="steerclear-pg-", dir="/tmp"))  # a socket's path must be short
    bin_folder = INSTALLED[-1].parent
    as_owner = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_owner = ["runuser", "-u", "postgres", "--"]

    def run(*command: str) -> None:
        subprocess.run([*as_owner, *command], check=True, capture_output=True, text=True, cwd="/")

    data = folder / "data"
    try:
        run(str(bin_folder / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c shared_buffers=16MB"
        run(
            str(bin_folder / "pg_ctl"),
            "-D",
            str(data),
            "-w",
            "-l",
            str(folder / "log"),
            "-o",
            options,
            "start",
        )
        try:
            yield str(folder)
        finally:
            run(str(bin_folder / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def empty_database(socket: str) -> str:
    """Empties the cluster's database and returns its address."""
    import psycopg

    with psycopg.connect(host=socket, user="postgres", dbname="postgres", autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return f"postgresql+psycopg://postgres@/postgres?host={socket}"
