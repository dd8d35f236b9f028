"""``watch-folder``: transcribes what is put into a folder.

Touches: signals and the clock (through ``execute``), the log.
"""

from __future__ import annotations

from typing import Any

import click

from controller.cli import kubernetes
from controller.cli import options as shared
from controller.cli.inbox_options import inbox_options
from controller.cli.option_values import Place
from controller.cli.prices import price_options
from controller.cli.sections import Sectioned
from controller.cli.serve import Http, hide_options_of_requests, start
from controller.cli.service_log import errors_in_log


@click.command("watch-folder", cls=Sectioned)
@click.argument("inbox", type=Place(), metavar="IN")
@click.argument("outbox", type=Place(), metavar="OUT")
@inbox_options
@shared.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@shared.model_options
@shared.cut_options
@price_options
@kubernetes.runner_option
@shared.parallel_option
@shared.attempts_options
@shared.scratch_option
@shared.download_option
@shared.store_option
@kubernetes.options
@errors_in_log
def watch_folder_command(inbox: str, outbox: str, log_format: str, **rest: Any) -> int:
    """Transcribe each recording that is put into IN, once, into the same subfolder of OUT.

    IN and OUT are folders, or s3://bucket/folder. NAME.stenofleet.yaml beside a recording, or stenofleet.yaml in a
    folder, has other options; NAME.error.json in OUT says why there is no transcript. Ctrl-C ends it; the next start
    resumes.
    """
    del log_format
    start(Http(has_api=False), inbox, outbox, others=(), rendition=False, **rest)
    return 0


hide_options_of_requests(watch_folder_command)
