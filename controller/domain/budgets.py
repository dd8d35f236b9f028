"""Who pays for a failure: the chunk, the cluster, or nobody, because trying again does not help.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from controller.domain.failures import FailureClass, is_disruption

Budget = Literal["chunk", "cluster", "never"]

BUDGETS: Mapping[str, Budget] = {
    # The same input, options or rights give the same failure: trying again only costs time.
    FailureClass.BAD_INPUT: "never",
    FailureClass.CONFIG: "never",
    FailureClass.ACCESS: "never",
    FailureClass.MODEL: "never",
    FailureClass.CREATE_DENIED_ADMISSION: "never",
    FailureClass.CREATE_DENIED_RBAC: "never",
    # By the time these are failures, they have been waited for.
    FailureClass.UNSCHEDULABLE_RESOURCES: "never",
    FailureClass.UNSCHEDULABLE_AFFINITY: "never",
    FailureClass.UNSCHEDULABLE_TAINT: "never",
    # The chunk's own failures.
    FailureClass.CUDA_OOM: "chunk",
    FailureClass.GPU_UNHEALTHY: "chunk",
    FailureClass.NATIVE_CRASH: "chunk",
    FailureClass.OOM_KILLED: "chunk",
    FailureClass.EPHEMERAL_STORAGE: "chunk",
    # A node's, perhaps; one name for all chunks, more likely: few attempts, and the breaker sees them.
    FailureClass.IMAGE_PULL: "chunk",
    FailureClass.UNSCHEDULABLE_VOLUME: "chunk",
    FailureClass.DEADLINE: "chunk",
    FailureClass.NO_RESULT: "chunk",
    FailureClass.RESULT_INVALID: "chunk",
    # Its chunk is cut again before the next attempt.
    FailureClass.CHUNK_DAMAGED: "chunk",
    # A folder does not get space by itself: a few attempts, for whoever is freeing space just now.
    FailureClass.STORE_FULL: "chunk",
    FailureClass.UNKNOWN: "chunk",
    # What happens around it.
    FailureClass.STORE_UNAVAILABLE: "cluster",
    FailureClass.CREATE_DENIED_QUOTA: "cluster",
    FailureClass.DISRUPTED_PREEMPTED: "cluster",
    FailureClass.DISRUPTED_EVICTED: "cluster",
    FailureClass.DISRUPTED_DRAINED: "cluster",
    FailureClass.DISRUPTED_NODE_LOST: "cluster",
    FailureClass.DISRUPTED_DELETED: "cluster",
}
"""Who pays for a failure."""

ENVIRONMENT: frozenset[str] = frozenset(
    {failure for failure, budget in BUDGETS.items() if budget == "never"} - {FailureClass.BAD_INPUT}
    | {FailureClass.GPU_UNHEALTHY, FailureClass.IMAGE_PULL, FailureClass.UNSCHEDULABLE_VOLUME}
    | {FailureClass.CHUNK_DAMAGED, FailureClass.STORE_FULL}
    | {failure for failure, budget in BUDGETS.items() if budget == "cluster"}
)
"""Failures for which the media are not to blame."""

WAITED_FOR: frozenset[str] = frozenset(
    failure for failure in ENVIRONMENT if BUDGETS[failure] != "never" and not is_disruption(failure)
)
"""Those that are tried again although a person may have to do something: the reason is reported at the first one."""
