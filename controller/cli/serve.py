"""``serve``: the transcription service.

Touches: signals and the clock (through ``execute``), the log.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

import click

from chunk_job.contract import TranscribeOptions
from chunk_job.model_manifest import is_url
from chunk_job.names import is_published, unknown_model
from controller.cli import devices, kubernetes
from controller.cli import options as shared
from controller.cli.execute import SystemClock
from controller.cli.inbox_options import inbox_options
from controller.cli.models import check_model_name, ensure_model
from controller.cli.option_values import Place
from controller.cli.prices import price_options, taken_prices
from controller.cli.sections import Sectioned
from controller.cli.service_log import errors_in_log
from controller.domain.plan import ChannelChoice, Clip
from controller.errors import EnvironmentProblem, UsageProblem
from controller.intake.source import is_object
from controller.runs.output_folders import check_folder

if TYPE_CHECKING:
    from controller.service.tenant import Tenant

_PATIENCE_S = 365 * 24 * 3600
"""A service waits for its store and its cluster for as long as they are away."""
_PORT = click.IntRange(0, 65535)
_LOG = logging.getLogger(__name__)


@click.command("serve", cls=Sectioned)
@shared.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@shared.option("--port", type=_PORT, default=8080, show_default=True, help="0: any free one.")
@shared.option("--metrics-port", type=_PORT, default=0, metavar="N", help="Of /metrics (default: none).")
@shared.option(
    "--tenants",
    type=Place(path_type=Path),
    metavar="FILE",
    help="Who may use it: tokens and limits (TOML; default: this machine).",
)
@shared.option("--trusted-header", metavar="NAME", help="Header with the tenant, set by a proxy.")
@shared.option("--trusted-proxies", multiple=True, metavar="CIDR", help="Addresses of these proxies.")
@shared.option("--webhook-keys", type=Place(path_type=Path), metavar="FILE", help="Sign webhooks (TOML).")
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
@shared.option(
    "--inbox",
    default="",
    type=Place(),
    metavar="URL|FOLDER",
    help="Transcribe what is put there (docs/how-to/inbox.md).",
)
@shared.option(
    "--outbox",
    default="",
    type=Place(),
    metavar="URL|FOLDER",
    help="Where the transcripts of the inbox are written.",
)
@inbox_options
@shared.model_options
@shared.cut_options
@shared.rendition_option
@price_options
@kubernetes.runner_option
@shared.parallel_option
@shared.attempts_options
@shared.scratch_option
@shared.download_option
@shared.store_option
@kubernetes.options
@errors_in_log
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
    inbox: str,
    outbox: str,
    **rest: Any,
) -> int:
    """Serve transcriptions over HTTP: a page for people, and an API.

    Requests, their progress and their transcripts are in the store: any number of processes can serve the same one.
    Without --tenants, it only listens on this machine. Options of the model and of the cutting are the defaults of
    requests. GET /openapi.json describes the API. With --inbox, recordings that are put there are transcribed too.

    To try it: open http://127.0.0.1:8080, or curl -F file=@talk.mp3 http://127.0.0.1:8080/v1/runs
    """
    del log_format
    http = Http(
        host, port, metrics_port, tenants, trusted_header, trusted_proxies, webhook_keys, max_upload_mb,
        _endpoint(upload_endpoint), shutdown_grace,
    )  # fmt: skip
    start(http, inbox, outbox, **rest)
    return 0


class Http(NamedTuple):
    """Who is answered, and how."""

    host: str = "127.0.0.1"
    port: int = 0
    metrics_port: int = 0
    tenants: Path | None = None
    trusted_header: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    webhook_keys: Path | None = None
    max_upload_mb: int = 25
    upload_endpoint: str = ""
    shutdown_grace: int = 25
    has_api: bool = True
    """False: nobody is answered."""


def start(
    http: Http,
    inbox: str,
    outbox: str,
    *,
    inbox_poll: int,
    inbox_settle: int,
    inbox_lists: int,
    others: tuple[str, ...],
    chunk_duration: Literal["auto"] | int,
    chunking_threshold: int,
    clips: tuple[Clip, ...],
    audio_track: int | None,
    channels: ChannelChoice,
    max_parallel: int | None,
    max_attempts: int,
    max_disruptions: int,
    rendition: bool,
    scratch_dir: Path | None,
    download: bool,
    store: str | None,
    runner: str,
    **rest: Any,
) -> None:
    """Run the service until a signal comes."""
    if audio_track is not None or clips:
        raise UsageProblem(
            "--audio-track and --clip-timestamps are options of single requests",
            "leave them out here: a request has audio_track and clip_timestamps",
        )
    # Imported here: the libraries of the service are an extra, and take time to load.
    try:
        from controller.service import identity, serving, signatures
        from controller.service import tenants as who
        from controller.service.inbox.places import InboxSettings, checked
        from controller.service.submissions import Defaults
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            f"the service needs {error.name}, which is not installed", "pip install 'stenofleet[service]'"
        ) from error
    serving.check_ports(http.port, http.metrics_port)
    known = who.Tenants(http.tenants)
    identity.check_host(http.host, known.configured)
    trusted = identity.trusted_header(http.trusted_header, http.trusted_proxies, tenants_configured=known.configured)
    if http.has_api and known.configured and trusted is None:
        _warn_of_missing_tokens(known.all)
    prices = taken_prices(rest)
    cluster, model = kubernetes.divided(rest, runner)
    jobs = kubernetes.jobs_at_once(max_parallel, cluster=bool(cluster))
    wanted = shared.transcribe_options(jobs=0 if cluster else jobs, **model)
    opened = shared.store_at(store)
    inbox, outbox = checked(inbox, outbox, opened)
    if inbox and not is_object(inbox) and not Path(inbox).is_dir():
        raise UsageProblem(
            f"{inbox}: there is no such folder", "create it, or check its name and whether it is mounted"
        )
    if outbox and not is_object(outbox):
        check_folder(outbox)
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
            host=http.host,
            port=http.port,
            metrics_port=http.metrics_port,
            max_parallel=jobs,
            most_form_bytes=http.max_upload_mb * 1_000_000,
            shutdown_grace_s=http.shutdown_grace,
            upload_endpoint=http.upload_endpoint,
            has_api=http.has_api,
            prices=prices,
            inbox=InboxSettings(
                inbox=inbox,
                outbox=outbox,
                poll_s=inbox_poll,
                settle_s=inbox_settle,
                lists_per_minute=inbox_lists,
            ),
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
            keys=signatures.WebhookKeys(http.webhook_keys),
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


def hide_options_of_requests(command: click.Command) -> None:
    """Show no options of single requests in the help of *command*: they are accepted only to say where they belong."""
    for option in command.params:
        if isinstance(option, click.Option) and option.name in ("audio_track", "clips"):
            option.hidden = True


hide_options_of_requests(serve_command)


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
        elif not reference.startswith("/") and not is_published(reference) and not is_url(reference):
            raise UsageProblem(*unknown_model(reference))
        folder = not cluster and Path(reference).is_dir()
        # Requests name a folder by its last part: where it is does not concern clients.
        name = Path(reference).name if folder or reference.startswith("/") or is_url(reference) else reference
        found[name] = str(Path(reference).absolute()) if folder else reference
    return found


def _largest(wanted: TranscribeOptions, models: dict[str, str]) -> TranscribeOptions:
    """Return the options with the model that needs the most memory: all jobs get the same."""
    from controller.runners.kubernetes.job_memory import weights_mb

    return wanted.model_copy(update={"model": max(models.values(), key=weights_mb)})
