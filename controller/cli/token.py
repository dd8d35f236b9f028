"""``token``: makes a bearer token for a client of the service."""

from __future__ import annotations

import click

from chunk_job.text import json_line
from controller.cli import options as shared
from controller.cli.terminal import print_data, print_message
from controller.service.tokens import new_token, written_digest


@click.command("token")
@shared.json_option
def token_command(*, as_json: bool) -> int:
    """Make a token for a client of the service, and its digest for the tenants file.

    The first line on stdout is the token, the second one its digest. Neither is stored.
    """
    token = new_token()
    digest = written_digest(token)
    if as_json:
        print_data(json_line({"token": token, "digest": digest}), exact=True)
        return 0
    print_data(token, exact=True)
    print_data(digest, exact=True)
    print_message(
        "The first line is the token: for the client, it cannot be shown again. The second line is its digest.\n"
        "In the tenants file:\n"
        "[tenants.NAME]\n"
        f'tokens = ["{digest}"]'
    )
    return 0
