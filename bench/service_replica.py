"""One replica of the service with simulated jobs, for ``bench.service``: a process that can be killed."""

import argparse
import logging
import signal
from pathlib import Path

from chunk_job.store.open_store import open_store
from controller.domain.jobs import Job
from controller.domain.keys import RunKeys
from controller.errors import Interrupted
from controller.leadership.file_lock import FileLocks
from controller.runners.folders import Home
from tests.controller.service.running import LedRunner, LiveClock, server_of

FORM_BYTES = 1 << 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int, required=True)
    parser.add_argument("--takes-ms", type=int, required=True)
    parser.add_argument("--chunks", type=int, required=True)
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    clock, store = LiveClock(), open_store(given.store)

    def stop(number: int, _: object) -> None:
        clock.asked_to_stop = number

    signal.signal(signal.SIGTERM, stop)
    with given.journal.open("a", buffering=1, encoding="ascii") as journal:

        def started(job: Job) -> None:
            """Write a line for each job, and whether its chunk had a result already."""
            if job.span is None:
                journal.write(f"intake {job.run}\n")
                return
            known = next(iter(store.list(RunKeys(job.run).results_of(job.span))), None)
            journal.write(f"{'again' if known else 'chunk'} {job.run} {job.span} {job.attempt}\n")

        runner = LedRunner(
            store,
            clock,
            FileLocks(Home(given.home)),
            takes_ms=given.takes_ms,
            chunks=given.chunks,
            started=started,
        )
        server = server_of(
            store, runner, clock, port=given.port, max_parallel=given.parallel, most_form_bytes=FORM_BYTES
        )
        try:
            server.run()
        except Interrupted:
            return


if __name__ == "__main__":
    main()
