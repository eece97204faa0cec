"""What a server is started with."""

from __future__ import annotations

from dataclasses import dataclass

from steerclear.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")
MEGABYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """The options of `steerclear serve`.

    Attributes:
        model: a folder, a single file or a hub id.
        library: folder or address of the protected pictures.
        filters: further filters, by name.
        ladder: strategies in order; none for the default ladder.
        encoder: in whose space strategies steer; "" for the library's first.
        budget: most that one flagged picture may cost, as a multiple of the plain cost.
        dtype: of the weights; "" for the default of `load_pipeline`.
        variant: which files of the model folder; "" for the only ones.
        steps: denoising steps of a request that names none.
        guidance: guidance scale of a request that names none; None for the pipeline's own.
        devices: where workers run, in turn.
        workers: how many processes hold the model, each with one request, or one batch, at a time.
        batch: most pictures that requests of equal settings make in one call; 1 for each request alone.
        host: where the server listens.
        port: see host; 0 for a free one.
        database: address of the database of keys and incidents; "" for none.
        keep_prompts: "text", or "hash" for incidents without words.
        keep_thumbnails: days for which incidents have a small picture of what was flagged; 0 for none.
        insecure: without keys; only on loopback.
        queue: most requests that wait.
        time_limit: seconds that a request may take, waiting included.
        drain: seconds that requests have to end after SIGTERM.
        most_images: per request.
        most_steps: per picture.
        most_pixels: of a picture to make.
        most_upload_pixels: of all pictures that a request sends in, together.
        most_bytes: of a request's body.
        longest_prompt: in characters.
        cors: origins whose pages may call the server.
        log_prompts: write prompts into the log.
    """

    model: str
    library: str
    filters: tuple[str, ...] = ()
    ladder: tuple[str, ...] = ()
    encoder: str = ""
    budget: float = 8.0
    dtype: str = ""
    variant: str = ""
    steps: int = 25
    guidance: float | None = None
    devices: tuple[str, ...] = ("cpu",)
    workers: int = 1
    batch: int = 1
    host: str = "127.0.0.1"
    port: int = 8000
    database: str = ""
    keep_prompts: str = "text"
    keep_thumbnails: float = 0.0
    insecure: bool = False
    queue: int = 64
    time_limit: float = 300.0
    drain: float = 60.0
    most_images: int = 10
    most_steps: int = 200
    most_pixels: int = 2**22
    most_upload_pixels: int = 2**24
    most_bytes: int = 32 * MEGABYTE
    longest_prompt: int = 4000
    cors: tuple[str, ...] = ()
    log_prompts: bool = False

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            ConfigError: that names the option, its value and what it takes.
        """
        for option in ("steps", "workers", "batch", "queue", "most_images", "most_steps", "most_pixels"):
            _at_least_one(option, getattr(self, option))
        for option in ("most_upload_pixels", "most_bytes", "longest_prompt", "time_limit"):
            _at_least_one(option, getattr(self, option))
        if not self.devices:
            raise ConfigError("no device is given; give one, such as cpu or cuda:0")
        if self.insecure and self.host not in LOOPBACK:
            raise ConfigError(
                f"--insecure serves without keys, and --host {self.host} can be reached from elsewhere; "
                "leave --host at 127.0.0.1, or make keys with `steerclear keys add` and leave --insecure out"
            )
        if self.insecure and self.cors:
            raise ConfigError(
                f"--insecure answers this machine alone, and --cors {self.cors[0]} names another site, "
                "whose pages it would refuse; leave --cors out, or make keys with `steerclear keys add` and "
                "leave --insecure out"
            )
        if not self.insecure and not self.database:
            raise ConfigError(
                "keys are kept in a database, and none is named; give --database records.db, or "
                "--insecure to serve this machine alone without keys"
            )

    def device_of(self, worker: int) -> str:
        """The device of a worker, counted from 0."""
        return self.devices[worker % len(self.devices)]


def _at_least_one(option: str, value: float) -> None:
    if not value >= 1:
        raise ConfigError(f"--{option.replace('_', '-')} is {value}; it must be at least 1")
