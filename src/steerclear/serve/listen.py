"""The socket that the server listens on, opened first: a taken port is said before anything is loaded."""

from __future__ import annotations

import socket

from steerclear.errors import ConfigError


def listening_socket(host: str, port: int) -> socket.socket:
    """A bound socket.

    Args:
        host: an address or a name of this machine.
        port: 0 for a free one.

    Raises:
        ConfigError: for an address that is not this machine's, and a port that is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, OverflowError) as error:
        raise ConfigError(f"--host {host!r} --port {port} cannot be used: {error}; try 127.0.0.1") from error
    opened = socket.socket(family, kind, protocol)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen()  # who comes before the server runs waits, and is not refused
    except OSError as error:
        opened.close()
        raise ConfigError(
            f"the server cannot listen on {host}, port {port}: {error.strerror}; choose another --port"
        ) from error
    return opened
