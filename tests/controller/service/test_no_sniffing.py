"""Every answer says that it is what its header says."""

import pytest

from chunk_job.store.files import FileStore
from tests.controller.service.running import running

pytestmark = pytest.mark.process


def test_every_answer_is_taken_for_what_its_header_says(store: FileStore) -> None:
    with running(store) as service:
        run = service.submit()["id"]
        service.wait_for(run, "complete")
        for place in (
            "/",
            f"/runs/{run}",
            f"/v1/runs/{run}",
            f"/v1/runs/{run}/result?format=txt",
            "/nothing",
            "/healthz",
        ):
            assert service.client.get(place).headers.get_list("X-Content-Type-Options") == ["nosniff"], place
