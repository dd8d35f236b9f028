"""Bearer tokens: how one is made, and the digest by which it is known.

Touches: the random numbers of the operating system. The service stores digests only. A token has 256 random bits, so
a plain sha256 is enough: there is nothing to guess that a slow digest would protect.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

PREFIX = "stf_"
"""Programs that search texts for secrets find the tokens of this service by it."""

DIGEST_PREFIX = "sha256:"
_RANDOM_BYTES = 32


def new_token() -> str:
    """Return a new random token of 47 characters."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(_RANDOM_BYTES)).decode("ascii").rstrip("=")


def digest_of(token: str) -> bytes:
    """Return the sha256 of a token. Text that is no UTF-8 has one too, and it is that of no token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def written_digest(token: str) -> str:
    """Return the digest as it is written in the tenants file."""
    return DIGEST_PREFIX + digest_of(token).hex()


def parsed_digest(written: str) -> bytes:
    """Return the digest that the tenants file contains as *written*."""
    return bytes.fromhex(written.removeprefix(DIGEST_PREFIX))
