"""What the project relies on of an API server, asked of the one in memory and of the real one."""

import re
from typing import Any

from controller.runners.kubernetes.api import Reply
from controller.runners.kubernetes.labels import RUN, selector
from controller.runners.kubernetes.manifest import Owner, job_document
from tests.kube import cases
from tests.kube.conftest import OTHER_RUN, Place, status_of
from tests.kube.wire import Object


def version_of(document: Object) -> str:
    return str(document["metadata"]["resourceVersion"])


def changes(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in events]


# ---------------------------------------------------------------- create, get, list


def test_what_is_created_has_a_uid_a_version_and_a_time(place: Place) -> None:
    one, other = place.lease("one"), place.lease("other")
    for made in (one, other):
        assert {"uid", "resourceVersion", "creationTimestamp"} <= made["metadata"].keys()
        assert place.api.get("leases", made["metadata"]["name"]) == made
    assert one["metadata"]["uid"] != other["metadata"]["uid"]


def test_a_name_is_given_once_and_what_has_it_stays_as_it_is(place: Place) -> None:
    made = place.job(place.lease())
    assert status_of(lambda: place.job(made)) == (409, "AlreadyExists")
    (found,) = place.api.find("jobs", exact=True)["items"]
    assert found["metadata"]["uid"] == made["metadata"]["uid"]


def test_what_is_not_there_is_none(place: Place) -> None:
    assert place.api.get("jobs", "nothing") is None
    assert place.api.log("nothing", "job", lines=1) == []


def test_a_list_holds_what_its_selector_names(place: Place) -> None:
    owner = place.lease()
    mine, other = place.job(owner), place.job(owner, run=OTHER_RUN)
    assert place.names("jobs", labelSelector=selector([cases.RUN])) == [mine["metadata"]["name"]]
    assert len(place.names("jobs", labelSelector=selector([cases.RUN, OTHER_RUN]))) == 2
    assert place.names("jobs", labelSelector=f"{RUN}={OTHER_RUN}") == [other["metadata"]["name"]]
    assert place.names("jobs", labelSelector="nothing=here") == []


def test_an_exact_list_shows_what_was_just_created_and_a_cached_one_soon(place: Place) -> None:
    made = place.lease("one")
    found = place.api.find("leases", exact=True)
    assert [item["metadata"]["uid"] for item in found["items"]] == [made["metadata"]["uid"]]
    assert int(version_of(found)) >= int(version_of(made))
    place.until(lambda: place.api.find("leases")["items"], "the cache has it")


def test_events_are_found_by_what_they_are_about(place: Place) -> None:
    for name in ("one", "other"):
        about = {"kind": "Job", "name": name, "namespace": place.api.namespace}
        meta = {"name": f"event-{name}", "namespace": place.api.namespace}
        event = {"apiVersion": "v1", "kind": "Event", "metadata": meta, "involvedObject": about, "type": "Warning"}
        place.api.create("events", event)
    assert place.names("events", fieldSelector="involvedObject.kind=Job,involvedObject.name=one") == ["event-one"]


def test_what_is_only_tried_is_not_kept(place: Place) -> None:
    document = job_document(cases.chunk(0), place.options, Owner(name="x", uid="y"))
    place.api.try_create("jobs", document)
    assert place.names("jobs") == []


def test_a_server_gives_its_version_and_says_what_is_allowed(place: Place) -> None:
    assert place.api.version().startswith("v1.")
    assert place.api.allowed("batch", "jobs", "create")


def test_a_quota_refuses_one_too_many_and_says_so(place: Place) -> None:
    owner = place.lease()
    place.set_quota(2)
    taken: list[str] = []
    refused: list[Reply] = []

    def is_full() -> bool:
        try:
            taken.append(place.job(owner, len(taken))["metadata"]["name"])
        except Reply as reply:
            refused.append(reply)
        # A real one counts for a moment before it knows what is used.
        return bool(refused) and "exceeded quota" in refused[-1].message

    place.until(is_full, "the quota is used up")
    assert re.search(r"forbidden: exceeded quota: quota, requested: count/jobs.batch=1, used: ", refused[-1].message)
    assert (refused[-1].status, refused[-1].reason) == (403, "Forbidden")
    assert place.names("jobs") == taken


# ---------------------------------------------------------------- replace


def test_only_who_has_read_the_newest_version_may_replace(place: Place) -> None:
    first = place.lease()
    second = place.api.replace("leases", first | {"spec": {"holderIdentity": "one"}})
    assert int(version_of(second)) > int(version_of(first))
    assert second["metadata"]["uid"] == first["metadata"]["uid"]
    assert status_of(lambda: place.api.replace("leases", first | {"spec": {"holderIdentity": "other"}})) == (
        409,
        "Conflict",
    )
    assert place.api.get("leases", "lease") == second


def test_what_is_replaced_by_the_same_keeps_its_version(place: Place) -> None:
    made = place.lease()
    assert version_of(place.api.replace("leases", made)) == version_of(made)


def test_what_is_gone_is_not_replaced(place: Place) -> None:
    made = place.lease()
    place.api.delete("leases", "lease", uid=made["metadata"]["uid"])
    assert status_of(lambda: place.api.replace("leases", made)) == (409, "Conflict")
    assert place.api.get("leases", "lease") is None
    again = place.lease()
    assert status_of(lambda: place.api.replace("leases", made)) == (409, "Conflict")
    assert again["metadata"]["uid"] != made["metadata"]["uid"]


# ---------------------------------------------------------------- delete and what follows


def test_a_delete_takes_the_one_that_is_meant_as_it_was_read(place: Place) -> None:
    made = place.lease()
    uid = made["metadata"]["uid"]
    assert not place.api.delete("leases", "lease", uid="11111111-2222-3333-4444-555555555555")
    changed = place.api.replace("leases", made | {"spec": {"holderIdentity": "one"}})
    assert not place.api.delete("leases", "lease", uid=uid, version=version_of(made))
    assert place.api.get("leases", "lease") == changed
    assert place.api.delete("leases", "lease", uid=uid, version=version_of(changed))
    assert place.api.get("leases", "lease") is None
    assert not place.api.delete("leases", "lease", uid=uid)


def test_a_job_takes_its_pods_with_it(place: Place) -> None:
    owner = place.lease()
    gone, stays = place.job(owner, 0), place.job(owner, 1)
    place.until(lambda: len(place.names("pods")) == 2, "both have a pod")
    place.api.delete("jobs", gone["metadata"]["name"], uid=gone["metadata"]["uid"])
    place.until(lambda: len(place.names("pods")) == 1, "its pod goes")
    (pod,) = place.api.find("pods", exact=True)["items"]
    assert pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] == stays["metadata"]["uid"]


def test_a_lease_takes_its_jobs_with_it_and_no_others(place: Place) -> None:
    gone, stays = place.lease("gone"), place.lease("stays")
    for span in range(2):
        place.job(gone, span)
    kept = place.job(stays, 2)
    place.until(lambda: len(place.names("pods")) == 3, "all have a pod")
    place.api.delete("leases", "gone", uid=gone["metadata"]["uid"])
    place.until(lambda: place.names("jobs") == [kept["metadata"]["name"]], "its Jobs go")
    place.until(lambda: len(place.names("pods")) == 1, "and their pods")


def test_a_job_of_a_lease_that_is_gone_is_created_and_goes(place: Place) -> None:
    owner = place.lease()
    place.api.delete("leases", "lease", uid=owner["metadata"]["uid"])
    place.lease()  # the name does not count
    assert place.job(owner)["metadata"]["uid"]
    place.until(lambda: place.names("jobs") == [], "it is collected")


# ---------------------------------------------------------------- watch


def test_a_watch_tells_every_change_since_a_version_in_order(place: Place) -> None:
    place.lease("before")
    since = version_of(place.api.find("leases", exact=True))
    made = place.lease("lease", mine="yes")
    place.lease("other")
    changed = place.api.replace("leases", made | {"spec": {"holderIdentity": "one"}})
    place.api.delete("leases", "lease", uid=made["metadata"]["uid"])
    events = list(place.api.watch("leases", seconds=1, resourceVersion=since, labelSelector="mine=yes"))
    assert changes(events) == [("ADDED", "lease"), ("MODIFIED", "lease"), ("DELETED", "lease")]
    assert [version_of(event["object"]) for event in events[:2]] == [version_of(made), version_of(changed)]
    assert int(version_of(events[2]["object"])) > int(version_of(changed))
    assert events[2]["object"]["spec"] == changed["spec"], "as it was last"
    later = place.api.watch("leases", seconds=1, resourceVersion=version_of(made), labelSelector="mine=yes")
    assert changes(list(later)) == [("MODIFIED", "lease"), ("DELETED", "lease")]


def test_a_watch_tells_what_happens_while_it_is_open_and_ends_in_time(place: Place) -> None:
    since = version_of(place.api.find("leases", exact=True))
    watch = place.api.watch("leases", seconds=3, resourceVersion=since)
    place.lease("one")
    assert next(watch)["object"]["metadata"]["name"] == "one"
    place.lease("other")
    assert next(watch)["object"]["metadata"]["name"] == "other"
    assert list(watch) == []


def test_a_version_that_is_too_old_is_said_to_be_gone(place: Place) -> None:
    place.lease()
    since = place.forget_history()
    (event,) = place.api.watch("leases", seconds=1, resourceVersion=since)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


def test_a_watch_of_pods_tells_how_one_comes_and_goes(place: Place) -> None:
    since = version_of(place.api.find("pods", exact=True))
    made = place.job(place.lease())
    place.until(lambda: unscheduled(place), "its pod finds no node")
    place.api.delete("jobs", made["metadata"]["name"], uid=made["metadata"]["uid"])
    place.until(lambda: place.names("pods") == [], "it goes with its Job")
    events = list(place.api.watch("pods", seconds=1, resourceVersion=since, labelSelector=selector([cases.RUN])))
    kinds = [event["type"] for event in events]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("ADDED", "DELETED", {"MODIFIED"})
    assert {event["object"]["metadata"]["uid"] for event in events} == {events[0]["object"]["metadata"]["uid"]}


def unscheduled(place: Place) -> bool:
    pods = place.api.find("pods", exact=True)["items"]
    conditions = [it for pod in pods for it in pod["status"].get("conditions", ())]
    return any(it.get("reason") == "Unschedulable" for it in conditions)
