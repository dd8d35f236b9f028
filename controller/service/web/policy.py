"""What browsers allow on our pages: only our own files, and the store of recordings.

Touches: the store's client, which may ask for credentials once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import urlsplit

from chunk_job.errors import JobError
from controller.service.context import Service
from controller.service.media import Linking

_LOG = logging.getLogger(__name__)


class Policy:
    """The header fields of every page."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._found: Mapping[str, str] | None = None

    def headers(self) -> Mapping[str, str]:
        """Return the fields. The first call may take some time."""
        if self._found is None:
            try:
                self._found = headers(_origin(self._service))
            except JobError as error:
                _LOG.warning("pages: where recordings are uploaded is not known: %s", error.summary)
                return headers("")
        return self._found


def headers(store: str) -> Mapping[str, str]:
    """Return the fields. *store*: the origin to which recordings are uploaded, and from which they are played."""
    own = "'self'"
    policy = {
        "default-src": "'none'",
        "script-src": own,
        "style-src": own,
        "img-src": own,
        "connect-src": f"{own} {store}".strip(),
        "media-src": f"{own} {_buckets(store)}".strip(),
        "form-action": own,
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {sources}" for name, sources in policy.items()),
        "X-Content-Type-Options": "nosniff",
        # Not no-referrer: then browsers do not say from which site a form comes.
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _origin(service: Service) -> str:
    if not isinstance(service.store, Linking):
        return ""
    # As the store's client makes its links: with the bucket in the name of the server, or without.
    made = service.store.link("x", media_type="audio/mpeg", valid_s=60, endpoint=service.upload_endpoint)
    parts = urlsplit(made)
    return f"{parts.scheme}://{parts.netloc}"


def _buckets(origin: str) -> str:
    """Return the origins of all buckets of a server: recordings may be in others than the store's."""
    scheme, _, host = origin.partition("://")
    bucket, dot, rest = host.partition(".")
    return f"{scheme}://*.{rest}" if bucket and dot and rest.endswith("amazonaws.com") and "s3" in rest else origin
