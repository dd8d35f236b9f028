"""Which retry budget a failure counts against: the chunk's, the cluster's, or none because a retry does not help.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from controller.domain.failures import FailureClass, is_disruption

Budget = Literal["chunk", "cluster", "never"]

BUDGETS: Mapping[str, Budget] = {
    # The same input, options or rights give the same failure: a retry only costs time.
    FailureClass.BAD_INPUT: "never",
    FailureClass.CONFIG: "never",
    FailureClass.ACCESS: "never",
    FailureClass.MODEL: "never",
    FailureClass.MODEL_DAMAGED: "never",
    FailureClass.CREATE_DENIED_ADMISSION: "never",
    FailureClass.CREATE_DENIED_RBAC: "never",
    # These are failures only after a time of waiting.
    FailureClass.UNSCHEDULABLE_RESOURCES: "never",
    FailureClass.UNSCHEDULABLE_AFFINITY: "never",
    FailureClass.UNSCHEDULABLE_TAINT: "never",
    # The chunk's own failures.
    FailureClass.CUDA_OOM: "chunk",
    FailureClass.GPU_UNHEALTHY: "chunk",
    FailureClass.NATIVE_CRASH: "chunk",
    FailureClass.OOM_KILLED: "chunk",
    FailureClass.EPHEMERAL_STORAGE: "chunk",
    # Perhaps a problem of one node, but more likely a wrong name, the same for all chunks: few attempts, then the
    # circuit breaker stops the run.
    FailureClass.IMAGE_PULL: "chunk",
    FailureClass.UNSCHEDULABLE_VOLUME: "chunk",
    FailureClass.DEADLINE: "chunk",
    FailureClass.NO_RESULT: "chunk",
    FailureClass.RESULT_INVALID: "chunk",
    # Its chunk is cut again before the next attempt.
    FailureClass.CHUNK_DAMAGED: "chunk",
    # A full folder does not get space by itself: a few attempts, in case a person is freeing space just now.
    FailureClass.STORE_FULL: "chunk",
    FailureClass.UNKNOWN: "chunk",
    # Failures of the infrastructure.
    FailureClass.STORE_UNAVAILABLE: "cluster",
    FailureClass.CREATE_DENIED_QUOTA: "cluster",
    FailureClass.DISRUPTED_PREEMPTED: "cluster",
    FailureClass.DISRUPTED_EVICTED: "cluster",
    FailureClass.DISRUPTED_DRAINED: "cluster",
    FailureClass.DISRUPTED_NODE_LOST: "cluster",
    FailureClass.DISRUPTED_DELETED: "cluster",
}
"""Failure class → the retry budget that it counts against; *never*: it is not tried again."""

ENVIRONMENT: frozenset[str] = frozenset(
    {failure for failure, budget in BUDGETS.items() if budget == "never"} - {FailureClass.BAD_INPUT}
    | {FailureClass.GPU_UNHEALTHY, FailureClass.IMAGE_PULL, FailureClass.UNSCHEDULABLE_VOLUME}
    | {FailureClass.CHUNK_DAMAGED, FailureClass.STORE_FULL}
    | {failure for failure, budget in BUDGETS.items() if budget == "cluster"}
)
"""Failures that are not caused by the media."""

WAITED_FOR: frozenset[str] = frozenset(
    failure for failure in ENVIRONMENT if BUDGETS[failure] != "never" and not is_disruption(failure)
)
"""Failures that are retried although a person may have to act: what to do is reported at the first one."""
