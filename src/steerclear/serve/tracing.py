"""OpenTelemetry spans, where its API is installed; without an exporter they cost next to nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import trace
except ImportError:  # the extra `otel` is not installed
    trace = None  # type: ignore[assignment]


@contextmanager
def span(name: str, **attributes: Any) -> Iterator[Callable[..., None]]:
    """A span around a block, with attributes `steerclear.…`; never a prompt, nor a name of the library.

    Yields:
        A function that sets further attributes.
    """
    if trace is None:
        yield lambda **more: None
        return
    tracer = trace.get_tracer("steerclear.serve")
    with tracer.start_as_current_span(f"steerclear.{name}") as current:

        def describe(**more: Any) -> None:
            for key, value in more.items():
                current.set_attribute(f"steerclear.{key}", value)

        describe(**attributes)
        yield describe
