"""The behaviour of an API server that the project relies on, tested with the one in memory and with the real one."""

import re
from typing import Any

import pytest

from controller.runners.kubernetes.api import Reply
from controller.runners.kubernetes.labels import RUN, selector
from controller.runners.kubernetes.manifest import Owner, job_document
from tests.kube import cases
from tests.kube.conftest import OTHER_RUN, ApiNamespace, status_of
from tests.kube.wire import Object


def version_of(document: Object) -> str:
    return str(document["metadata"]["resourceVersion"])


def changes(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


# ---------------------------------------------------------------- create, get, list


def test_a_created_object_has_a_uid_a_version_and_a_time(target: ApiNamespace) -> None:
    one, other = target.lease("one"), target.lease("other")
    for made in (one, other):
        assert {"uid", "resourceVersion", "creationTimestamp"} <= made["metadata"].keys()
        assert target.api.get("leases", made["metadata"]["name"]) == made
    assert one["metadata"]["uid"] != other["metadata"]["uid"]


def test_a_name_is_used_once_and_its_object_is_not_changed(target: ApiNamespace) -> None:
    made = target.job(target.lease())
    assert status_of(lambda: target.job(made)) == (409, "AlreadyExists")
    (found,) = target.api.find("jobs", exact=True)["items"]
    assert found["metadata"]["uid"] == made["metadata"]["uid"]


def test_a_missing_object_is_none(target: ApiNamespace) -> None:
    assert target.api.get("jobs", "nothing") is None
    assert target.api.log("nothing", "job", lines=1) == []


def test_a_list_holds_what_its_selector_names(target: ApiNamespace) -> None:
    owner = target.lease()
    mine, other = target.job(owner), target.job(owner, run=OTHER_RUN)
    assert target.names("jobs", labelSelector=selector([cases.RUN])) == [mine["metadata"]["name"]]
    assert len(target.names("jobs", labelSelector=selector([cases.RUN, OTHER_RUN]))) == 2
    assert target.names("jobs", labelSelector=f"{RUN}={OTHER_RUN}") == [other["metadata"]["name"]]
    assert target.names("jobs", labelSelector="nothing=here") == []


def test_an_exact_list_shows_what_was_just_created_and_a_cached_one_soon(target: ApiNamespace) -> None:
    made = target.lease("one")
    found = target.api.find("leases", exact=True)
    assert [item["metadata"]["uid"] for item in found["items"]] == [made["metadata"]["uid"]]
    assert int(version_of(found)) >= int(version_of(made))
    target.until(lambda: target.api.find("leases")["items"], "the cache has it")


def test_events_are_found_by_what_they_are_about(target: ApiNamespace) -> None:
    for name in ("one", "other"):
        about = {"kind": "Job", "name": name, "namespace": target.api.namespace}
        meta = {"name": f"event-{name}", "namespace": target.api.namespace}
        event = {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": about, "type": "Warning"}
        target.api.create("events", event)
    assert target.names("events", fieldSelector="involvedObject.kind=Job,involvedObject.name=one") == ["event-one"]


def test_a_dry_run_creates_nothing(target: ApiNamespace) -> None:
    document = job_document(cases.chunk(0), target.options, Owner(name="x", uid="y"))
    target.api.try_create("jobs", document)
    assert target.names("jobs") == []


def test_a_server_gives_its_version_and_the_allowed_operations(target: ApiNamespace) -> None:
    assert target.api.version().startswith("v1.")
    assert target.api.allowed("batch", "jobs", "create")


def test_a_quota_refuses_a_job_above_its_limit_and_names_itself(target: ApiNamespace) -> None:
    owner = target.lease()
    target.set_quota(2)
    taken: list[str] = []
    refused: list[Reply] = []

    def is_full() -> bool:
        try:
            taken.append(target.job(owner, len(taken))["metadata"]["name"])
        except Reply as reply:
            refused.append(reply)
        # A real server needs a moment to count the used quota.
        return bool(refused) and "exceeded quota" in refused[-1].message

    target.until(is_full, "the quota is used up")
    assert re.search(r"forbidden: exceeded quota: quota, requested: count/jobs.batch=1, used: ", refused[-1].message)
    assert (refused[-1].status, refused[-1].reason) == (403, "Forbidden")
    assert target.names("jobs") == taken


# ---------------------------------------------------------------- replace


def test_only_the_newest_version_may_be_replaced(target: ApiNamespace) -> None:
    first = target.lease()
    second = target.api.replace("leases", first | {"spec": {"holderIdentity": "one"}})
    assert int(version_of(second)) > int(version_of(first))
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert status_of(lambda: target.api.replace("leases", first | {"spec": {"holderIdentity": "other"}})) == (
        409,
        "Conflict",
    )
    assert target.api.get("leases", "lease") == second


def test_an_object_replaced_by_the_same_keeps_its_version(target: ApiNamespace) -> None:
    made = target.lease()
    assert version_of(target.api.replace("leases", made)) == version_of(made)


def test_a_deleted_object_is_not_replaced(target: ApiNamespace) -> None:
    made = target.lease()
    target.api.delete("leases", "lease", uid=made["metadata"]["uid"])
    assert status_of(lambda: target.api.replace("leases", made)) == (409, "Conflict")
    assert target.api.get("leases", "lease") is None
    again = target.lease()
    assert status_of(lambda: target.api.replace("leases", made)) == (409, "Conflict")
    assert again["metadata"]["uid"] != made["metadata"]["uid"]


# ---------------------------------------------------------------- delete and what follows


def test_a_delete_checks_uid_and_version(target: ApiNamespace) -> None:
    made = target.lease()
    uid = made["metadata"]["uid"]
    assert not target.api.delete("leases", "lease", uid="11111111-2222-3333-4444-555555555555")
    changed = target.api.replace("leases", made | {"spec": {"holderIdentity": "one"}})
    assert not target.api.delete("leases", "lease", uid=uid, version=version_of(made))
    assert target.api.get("leases", "lease") == changed
    assert target.api.delete("leases", "lease", uid=uid, version=version_of(changed))
    assert target.api.get("leases", "lease") is None
    assert not target.api.delete("leases", "lease", uid=uid)


def test_pods_are_deleted_with_their_job(target: ApiNamespace) -> None:
    owner = target.lease()
    gone, stays = target.job(owner, 0), target.job(owner, 1)
    target.until(lambda: len(target.names("pods")) == 2, "both have a pod")
    target.api.delete("jobs", gone["metadata"]["name"], uid=gone["metadata"]["uid"])
    target.until(lambda: len(target.names("pods")) == 1, "its pod goes")
    (pod,) = target.api.find("pods", exact=True)["items"]
    assert pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] == stays["metadata"]["uid"]


def test_only_the_jobs_of_a_lease_are_deleted_with_it(target: ApiNamespace) -> None:
    gone, stays = target.lease("gone"), target.lease("stays")
    for span in range(2):
        target.job(gone, span)
    kept = target.job(stays, 2)
    target.until(lambda: len(target.names("pods")) == 3, "all have a pod")
    target.api.delete("leases", "gone", uid=gone["metadata"]["uid"])
    target.until(lambda: target.names("jobs") == [kept["metadata"]["name"]], "its Jobs go")
    target.until(lambda: len(target.names("pods")) == 1, "and their pods")


def test_a_job_of_a_deleted_lease_is_created_and_then_collected(target: ApiNamespace) -> None:
    owner = target.lease()
    target.api.delete("leases", "lease", uid=owner["metadata"]["uid"])
    target.lease()  # the name does not count
    assert target.job(owner)["metadata"]["uid"]
    target.until(lambda: target.names("jobs") == [], "it is collected")


# ---------------------------------------------------------------- watch


def test_a_watch_gives_every_change_since_a_version_in_order(target: ApiNamespace) -> None:
    target.lease("before")
    since = version_of(target.api.find("leases", exact=True))
    made = target.lease("lease", mine="yes")
    target.lease("other")
    changed = target.api.replace("leases", made | {"spec": {"holderIdentity": "one"}})
    target.api.delete("leases", "lease", uid=made["metadata"]["uid"])
    events = list(target.api.watch("leases", seconds=1, resourceVersion=since, labelSelector="mine=yes"))
    assert changes(events) == [("ADDED", "lease"), ("MODIFIED", "lease"), ("DELETED", "lease")]
    assert [version_of(event["object"]) for event in events[:2]] == [version_of(made), version_of(changed)]
    assert int(version_of(events[2]["object"])) > int(version_of(changed))
    assert events[2]["object"]["spec"] == changed["spec"], "the last state"
    later = target.api.watch("leases", seconds=1, resourceVersion=version_of(made), labelSelector="mine=yes")
    assert changes(list(later)) == [("MODIFIED", "lease"), ("DELETED", "lease")]


def test_a_watch_gives_changes_while_it_is_open_and_ends_in_time(target: ApiNamespace) -> None:
    since = version_of(target.api.find("leases", exact=True))
    watch = target.api.watch("leases", seconds=3, resourceVersion=since)
    target.lease("one")
    assert next(watch)["object"]["metadata"]["name"] == "one"
    target.lease("other")
    assert next(watch)["object"]["metadata"]["name"] == "other"
    assert list(watch) == []


@pytest.mark.alone
def test_a_version_that_is_too_old_is_reported_as_gone(target: ApiNamespace) -> None:
    target.lease()
    since = target.expire_history()
    (event,) = target.api.watch("leases", seconds=1, resourceVersion=since)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_watch_of_pods_gives_creation_and_deletion(target: ApiNamespace) -> None:
    since = version_of(target.api.find("pods", exact=True))
    made = target.job(target.lease())
    target.until(lambda: unscheduled(target), "its pod finds no node")
    target.api.delete("jobs", made["metadata"]["name"], uid=made["metadata"]["uid"])
    target.until(lambda: target.names("pods") == [], "it goes with its Job")
    events = list(target.api.watch("pods", seconds=1, resourceVersion=since, labelSelector=selector([cases.RUN])))
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("ADDED", "DELETED", {"MODIFIED"})
    assert {event["object"]["metadata"]["uid"] for event in events} == {events[0]["object"]["metadata"]["uid"]}


def unscheduled(target: ApiNamespace) -> bool:
    pods = target.api.find("pods", exact=True)["items"]
    conditions = [it for pod in pods for it in pod["status"].get("conditions", ())]
    return any(it.get("reason") == "Unschedulable" for it in conditions)
