# ruff: noqa: INP001 (a separate program that is mounted into the pod of `helm test`)
"""Sends the sample recording through the API, and compares the words of its transcript with the known ones.

``transcribe_sample.py URL MAX-WORD-ERROR-RATE SECONDS``, with the bearer token in TOKEN. Touches: environment, the
service.
"""

import http.client
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from typing import Any

import jiwer

from controller import demo
from controller.domain.service_documents import ENDED_STATUSES

_POLL_EVERY_S = 2.0
_ANSWER_S = 60.0
_UNAVAILABLE = (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE, http.client.BAD_GATEWAY)


def main(url: str, most: str, seconds: str) -> int:
    """Exit code: 0 if the transcript came in time and its word error rate is at most *most*."""
    until_s = time.monotonic() + float(seconds)
    run = json.loads(send(f"{url}/v1/runs", until_s, form=demo.SAMPLE.read_bytes()))
    print(f"run {run['id']}", flush=True)
    while (status := json.loads(send(f"{url}/v1/runs/{run['id']}", until_s)))["status"] not in ENDED_STATUSES:
        pause(until_s, f"run {run['id']} is {status['status']}")
    text = send(f"{url}/v1/runs/{run['id']}/result?format=txt", until_s).decode()
    rate = word_error_rate(demo.SAMPLE_TEXT.read_text(encoding="utf-8"), text)
    print(f"{status['status']}: {len(text.split())} words, word error rate {rate:.1%} (at most {float(most):.0%})")
    return 0 if rate <= float(most) else 1


def send(url: str, until_s: float, *, form: bytes | None = None) -> bytes:
    """The answer's body. What is not available is tried again until *until_s*, on the monotonic clock."""
    key = secrets.token_hex(16)
    while True:
        try:
            with urllib.request.urlopen(request(url, form, key), timeout=_ANSWER_S) as answer:  # noqa: S310 (http only)
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            if error.code not in _UNAVAILABLE:
                raise SystemExit(f"{url}: HTTP {error.code}: {error.read().decode(errors='replace')}") from error
            why = f"HTTP {error.code}"
        except (OSError, http.client.HTTPException) as error:
            why = str(error)
        pause(until_s, f"{url}: {why}")


def request(url: str, form: bytes | None, key: str) -> urllib.request.Request:
    """A GET, or a POST of a form with the recording in the field ``file``. The same *key* is the same run."""
    headers: dict[str, Any] = {"Authorization": f"Bearer {os.environ['TOKEN']}"}
    if form is None:
        return urllib.request.Request(url, headers=headers)  # noqa: S310 (http only)
    head = (
        f'--{key}\r\nContent-Disposition: form-data; name="file"; filename="{demo.SAMPLE.name}"\r\n'
        "Content-Type: audio/mp4\r\n\r\n"
    )
    body = head.encode() + form + f"\r\n--{key}--\r\n".encode()
    headers |= {"Content-Type": f"multipart/form-data; boundary={key}", "Idempotency-Key": key}
    return urllib.request.Request(url, data=body, headers=headers)  # noqa: S310 (http only)


def pause(until_s: float, what: str) -> None:
    """Wait a moment. Ends the program after *until_s*."""
    if time.monotonic() > until_s:
        raise SystemExit(f"no transcript in time: {what}")
    time.sleep(_POLL_EVERY_S)


def word_error_rate(wanted: str, found: str) -> float:
    """Wrong words for each word of *wanted*, without case and punctuation."""
    clean = jiwer.Compose(
        [
            jiwer.ToLowerCase(),
            jiwer.RemovePunctuation(),
            jiwer.RemoveMultipleSpaces(),
            jiwer.Strip(),
            jiwer.ReduceToListOfListOfWords(),
        ]
    )
    lines = [" ".join(text.split()) for text in (wanted, found)]
    return float(jiwer.wer(lines[0], lines[1], reference_transform=clean, hypothesis_transform=clean))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
