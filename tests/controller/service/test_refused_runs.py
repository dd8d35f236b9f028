"""What the cluster refuses to one run is tried again, and other runs are worked on meanwhile."""

import pytest

from chunk_job.store.files import FileStore
from controller.domain.jobs import Job
from controller.errors import EnvironmentProblem
from tests.controller.service.running import running

pytestmark = pytest.mark.process


def test_a_run_to_which_something_is_refused_for_a_while_is_complete_in_the_end(store: FileStore) -> None:
    with running(store) as service:
        refused: list[str] = []
        submit = service.runner.submit

        def refuse_at_first(job: Job) -> None:
            if len(refused) < 3:
                refused.append(job.run)
                raise EnvironmentProblem('the cluster refuses: User "a" cannot create resource "jobs"', "ask for it")
            submit(job)

        service.runner.submit = refuse_at_first  # type: ignore[method-assign]
        runs = [service.submit(name)["id"] for name in ("a.wav", "b.wav")]
        assert [service.wait_for(run, "complete")["status"] for run in runs] == ["complete"] * 2
        assert len(refused) == 3
