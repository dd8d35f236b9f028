"""``serve``: the transcription service.

Touches: signals and the clock (through ``execute``), the log.
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import click

from chunk_job.contract import TranscribeOptions
from chunk_job.errors import JobError
from chunk_job.names import is_published, unknown_model
from chunk_job.text import printable
from controller.cli import devices, kubernetes
from controller.cli import options as shared
from controller.cli.execute import SystemClock
from controller.cli.terminal import print_message
from controller.cli.transcribe import check_model_name, ensure_model
from controller.domain.plan import ChannelChoice, Clip
from controller.errors import EnvironmentProblem, Interrupted, StenofleetError, UsageProblem

if TYPE_CHECKING:
    from controller.service.tenants import Tenant

_PATIENCE_S = 365 * 24 * 3600
"""A service waits for its store and its cluster for as long as they are away."""
_PORT = click.IntRange(0, 65535)

_LOG = logging.getLogger(__name__)


def _errors_in_log(command: Callable[..., int]) -> Callable[..., int]:
    """Make *command* log its errors, if the log is read by programs: each of its lines is a JSON object."""

    @functools.wraps(command)
    def logged(**options: Any) -> int:
        _log_to_stderr(options["log_format"])
        try:
            return command(**options)
        except Exception as error:
            if options["log_format"] == "text" or isinstance(error, click.ClickException):
                raise
            return _logged(error)

    return logged


def _logged(error: Exception) -> int:
    """Log the error that ends this process, and return the exit code."""
    if isinstance(error, Interrupted):
        _LOG.info(error.summary)
        return error.exit_code
    if isinstance(error, (StenofleetError, JobError)):
        _LOG.error("%s; %s", error.summary, error.advice)
        return error.exit_code if isinstance(error, StenofleetError) else EnvironmentProblem.exit_code
    _LOG.critical("a bug", exc_info=error)
    return StenofleetError.exit_code


@click.command("serve", cls=shared.Sectioned)
@shared.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@shared.option("--port", type=_PORT, default=8080, show_default=True, help="0: any free one.")
@shared.option("--metrics-port", type=_PORT, default=0, metavar="N", help="Of /metrics (default: none).")
@shared.option(
    "--tenants",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Who may use it: tokens and limits (TOML; default: this machine).",
)
@shared.option("--trusted-header", metavar="NAME", help="Header with the tenant, set by a proxy.")
@shared.option("--trusted-proxies", multiple=True, metavar="CIDR", help="Addresses of these proxies.")
@shared.option("--webhook-keys", type=click.Path(path_type=Path), metavar="FILE", help="Sign webhooks (TOML).")
@shared.option(
    "--max-upload-mb",
    type=click.IntRange(1, 10_000),
    default=25,
    show_default=True,
    metavar="MB",
    help="Recordings in forms; larger ones are uploaded in parts.",
)
@shared.option(
    "--upload-endpoint",
    default="",
    metavar="URL",
    help="Of S3, as clients reach it to upload and to play (default: as here).",
)
@shared.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Of stderr."
)
@shared.option(
    "--shutdown-grace",
    type=click.IntRange(0, 600),
    default=25,
    show_default=True,
    metavar="SECONDS",
    help="Time for requests that are being answered when it ends.",
)
@shared.option(
    "--allow-model", "others", multiple=True, metavar="NAME|FOLDER", help="Another model that requests may name."
)
@shared.model_options
@shared.cut_options
@shared.rendition_option
@kubernetes.runner_option
@shared.parallel_option
@shared.attempts_options
@shared.scratch_option
@shared.download_option
@shared.store_option
@kubernetes.options
@_errors_in_log
def serve_command(
    host: str,
    port: int,
    metrics_port: int,
    tenants: Path | None,
    trusted_header: str | None,
    trusted_proxies: tuple[str, ...],
    webhook_keys: Path | None,
    max_upload_mb: int,
    upload_endpoint: str,
    log_format: str,
    shutdown_grace: int,
    others: tuple[str, ...],
    chunk_duration: Literal["auto"] | int,
    chunking_threshold: int,
    clips: tuple[Clip, ...],
    audio_track: int | None,
    channels: ChannelChoice,
    max_parallel: int | None,
    max_attempts: int,
    max_disruptions: int,
    *,
    rendition: bool,
    scratch_dir: Path | None,
    download: bool,
    store: str | None,
    runner: str,
    **rest: Any,
) -> int:
    """Serve transcriptions over HTTP.

    Requests, their progress and their transcripts are in the store: any number of processes can serve the same one.
    Without --tenants, it only listens on this machine. Options of the model and of the cutting are the defaults of
    requests. GET /openapi.json describes the API.

    To try it: curl -F file=@talk.mp3 http://127.0.0.1:8080/v1/runs
    """
    if audio_track is not None or clips:
        raise UsageProblem(
            "--audio-track and --clip-timestamps are options of single requests",
            "leave them out here: a request has audio_track and clip_timestamps",
        )
    del log_format
    # Imported here: the libraries of the service are an extra, and take time to load.
    try:
        from controller.service import identity, serving, signatures
        from controller.service import tenants as who
        from controller.service.submissions import Defaults
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"the service needs {error.name}, which is not installed", "pip install 'stenofleet[service]'"
        ) from error
    serving.check_ports(port, metrics_port)
    known = who.Tenants(tenants)
    identity.check_host(host, known.configured)
    trusted = identity.trusted_header(trusted_header, trusted_proxies, tenants_configured=known.configured)
    if known.configured and trusted is None:
        _warn_of_missing_tokens(known.all)
    cluster, model = kubernetes.divided(rest, runner)
    jobs = kubernetes.jobs_at_once(max_parallel, cluster=bool(cluster))
    wanted = shared.transcribe_options(jobs=0 if cluster else jobs, **model)
    opened = shared.store_at(store)
    models = _models(wanted, others, cluster=bool(cluster), download=download)
    if cluster:
        wanted = kubernetes.on_gpus(wanted)
    elif wanted.device == "cuda" and not devices.has_gpu():
        raise EnvironmentProblem("--device cuda: there is no NVIDIA GPU here", "leave it out, or see stenofleet doctor")
    plan = shared.plan_options(
        wanted,
        chunk_duration=chunk_duration,
        chunking_threshold=chunking_threshold,
        clips=(),
        channels=channels,
        jobs=jobs,
        cluster=bool(cluster),
    )
    server = serving.Server(
        serving.Settings(
            host=host,
            port=port,
            metrics_port=metrics_port,
            max_parallel=jobs,
            most_form_bytes=max_upload_mb * 1_000_000,
            shutdown_grace_s=shutdown_grace,
            upload_endpoint=_endpoint(upload_endpoint),
            defaults=Defaults(
                options=wanted,
                plan=plan.model_copy(update={"auto": None}),
                models=models,
                temperature_step=model["temperature_increment_on_fallback"],
                auto_chunks=plan.auto is not None,
                device=devices.device_of(wanted),
                jobs=jobs,
                cluster=bool(cluster),
                rendition=rendition,
            ),
        ),
        serving.Access(
            tenants=known,
            identity=identity.Identity(known, trusted),
            keys=signatures.WebhookKeys(webhook_keys),
        ),
        store=opened,
        runner=kubernetes.runner_of(opened, _largest(wanted, models), scratch=scratch_dir, cluster=cluster),
        policy=shared.retry_policy(
            opened,
            wanted,
            max_attempts=max_attempts,
            max_disruptions=max_disruptions,
            store_patience=_PATIENCE_S,
        ),
        clock=SystemClock(),
    )
    server.run()
    return 0


for _option in serve_command.params:
    # They are accepted only to say where they belong.
    if isinstance(_option, click.Option) and _option.name in ("audio_track", "clips"):
        _option.hidden = True


def _warn_of_missing_tokens(tenants: Sequence[Tenant]) -> None:
    for tenant in tenants:
        if not tenant.tokens:
            _LOG.warning("tenant %s has no tokens, so nobody can use it: stenofleet token makes one", tenant.name)


def _endpoint(url: str) -> str:
    """Return the address of a server without a slash at its end; empty: none is given."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("ftp:")
    valid = parts.scheme in {"http", "https"} and parts.hostname and not (parts.query or parts.fragment)
    if url and (not valid or "@" in parts.netloc or not url.isprintable()):
        # It is not repeated: it may contain a password.
        raise UsageProblem("--upload-endpoint is not the URL of a server", "use https://host, without a user")
    return url.rstrip("/")


def _models(wanted: TranscribeOptions, others: tuple[str, ...], *, cluster: bool, download: bool) -> dict[str, str]:
    """Return the models that requests may name. On this machine, all of them must be there."""
    found = {}
    for reference in (wanted.model, *others):
        if not cluster:
            check_model_name(reference)
            ensure_model(reference, download=download)
        elif not reference.startswith("/") and not is_published(reference):
            raise UsageProblem(*unknown_model(reference))
        folder = not cluster and Path(reference).is_dir()
        # Requests name a folder by its last part: where it is does not concern clients.
        name = Path(reference).name if folder or reference.startswith("/") else reference
        found[name] = str(Path(reference).absolute()) if folder else reference
    return found


def _largest(wanted: TranscribeOptions, models: dict[str, str]) -> TranscribeOptions:
    """Return the options with the model that needs the most memory: all jobs get the same."""
    from controller.runners.kubernetes.job_memory import weights_mb

    return wanted.model_copy(update={"model": max(models.values(), key=weights_mb)})


class _Json(logging.Formatter):
    """One JSON object for each message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        found = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=True)


class _Text(logging.Formatter):
    """A line for people: the time of day in UTC, and the level if it is not that of plain information."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        """Return the line."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{record.asctime} {level}{record.message}"


class _Lines(logging.Handler):
    """Writes lines to stderr, escaped: they may contain text of clients."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__(logging.INFO)
        self._as_json = as_json
        self.setFormatter(_Json() if as_json else _Text())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        text = self.format(record)
        print_message(text if self._as_json else printable(text))


def _log_to_stderr(log_format: str) -> None:
    logging.basicConfig(level=logging.INFO, handlers=[_Lines(as_json=log_format == "json")], force=True)
    for noisy in ("httpx", "urllib3", "kubernetes", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
