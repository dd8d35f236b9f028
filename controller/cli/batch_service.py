"""Options of ``batch`` commands that work through the transcription service, and the connection that they choose.

Touches: environment (the token), the file of the token, signals.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from controller.cli import options as shared
from controller.cli.execute import SystemClock
from controller.cli.option_values import Place
from controller.cli.settings import TOKEN_VARIABLE
from controller.cli.terminal import print_message
from controller.domain.interfaces import Stopped
from controller.domain.keys import is_run
from controller.domain.served_batches import label_of
from controller.errors import Interrupted, UsageProblem

if TYPE_CHECKING:
    # Loaded only when there is a service: the library opens a socket to see whether there is IPv6.
    from controller.client.http import Connection
    from controller.client.replies import RunLine
    from controller.client.runs import Runs

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
_MOST_TOKEN_BYTES = 1_024
_PATIENCE_S = 600

service_options = shared.together(
    shared.option(
        "--server",
        metavar="URL",
        help="The transcription service that works on the batch, instead of this machine and its store.",
    ),
    shared.option(
        "--token-file",
        type=Place(path_type=Path),
        metavar="FILE",
        help=f"File with the token of that service (or the variable {TOKEN_VARIABLE}).",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service, for one command."""

    connection: Connection
    runs: Runs

    def of_batch(self, batch: str) -> Iterator[RunLine]:
        """Yield the runs of a batch, the newest first."""
        return self.runs.labelled(label_of(batch))


def service_of(values: dict[str, Any], *, needed: Collection[str] = ()) -> Service | None:
    """Take the options of this module out of *values*, and return the service that they choose; None: none.

    *needed*: options that only a service needs. Raises :class:`UsageProblem`.
    """
    url, token_file = values.pop("server"), values.pop("token_file")
    typed = {one: name for one, name in _typed().items() if one in (*needed, "store", "server", "token_file")}
    if "store" in typed:
        if "server" in typed:
            raise UsageProblem("--server and --store contradict each other", "leave one of them out")
        url = None
    if not url:
        if others := [name for one, name in typed.items() if one != "store"]:
            raise UsageProblem(f"{others[0]}: only for a batch of a service", "add --server URL, or leave it out")
        return None
    from controller.client.http import Connection, checked_url, is_local
    from controller.client.runs import Runs

    patience = click.get_current_context().params.get("store_patience")
    connection = Connection(
        checked_url(url),
        token := _token(token_file),
        patience_s=_PATIENCE_S if patience is None else patience,
        say=print_message,
    )
    if token and connection.url.startswith("http://") and not is_local(connection.url):
        print_message(f"{connection.url}: the token is sent without encryption; https:// protects it")
    return Service(connection=connection, runs=Runs(connection))


def check_options(allowed: Collection[str], advice: str) -> None:
    """Refuse typed options that are not *allowed*: a service decides what they choose. Raises :class:`UsageProblem`.

    Settings in the environment or a file may be meant for other commands.
    """
    if others := [name for one, name in _typed().items() if one not in (*allowed, "server", "token_file")]:
        raise UsageProblem(f"{', '.join(others)}: not possible with --server", advice)


def batch_id(typed: str) -> str:
    """The id of a batch that was typed. Raises :class:`UsageProblem`."""
    if not is_run(typed.lower()):
        raise UsageProblem(f"{typed[:60]}: is not the id of a batch", "give all 16 digits that batch submit prints")
    return typed.lower()


def no_batch(service: Service, batch: str) -> UsageProblem:
    """The problem of a batch without runs."""
    return UsageProblem(
        f"{service.connection.url} has no runs of batch {batch}", "check its id, and whose token is used"
    )


@contextlib.contextmanager
def interruptible(service: Service) -> Iterator[Callable[[float], None]]:
    """A block that a signal ends with :class:`Interrupted`. Yields what waits for some seconds."""
    from controller.client.http import Closed

    clock = SystemClock()

    def rest(seconds: float) -> None:
        if not clock.signal():
            clock.rest(partial(time.sleep, seconds))
        if number := clock.signal():
            raise Interrupted(number)

    try:
        try:
            yield rest
        except (Stopped, Closed):
            raise Interrupted(clock.signal() or signal.SIGINT) from None
    except Interrupted:
        print_message("the same command continues")
        raise
    finally:
        service.connection.close()


def _typed() -> dict[str, str]:
    """The options that were typed, by the names of their parameters."""
    context = click.get_current_context()
    return {
        str(one.name): next(name for name in one.opts if name.startswith("--"))
        for one in context.command.params
        if isinstance(one, click.Option)
        and not one.hidden
        and context.get_parameter_source(str(one.name)) is ParameterSource.COMMANDLINE
    }


def _token(file: Path | None) -> str:
    """The token; empty without one. Raises :class:`UsageProblem`, which does not contain it."""
    where = str(file) if file else TOKEN_VARIABLE
    try:
        if file:
            with file.open("rb") as opened:
                found = opened.read(_MOST_TOKEN_BYTES + 1).decode("ascii", "replace").strip()
        else:
            found = os.environ.get(TOKEN_VARIABLE, "").strip()  # noqa: TID251 (not an option: it is in no list of them)
    except OSError as error:
        raise UsageProblem(f"{where}: {error.strerror}", "check --token-file") from error
    if (found or file) and not (len(found) <= _MOST_TOKEN_BYTES and _TOKEN.fullmatch(found)):
        raise UsageProblem(f"{where}: has no token", "write there only the token that the operator of the service gave")
    return found
