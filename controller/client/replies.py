"""What the service says of runs, as far as commands use it. Fields that are not known are those of a newer service.

Touches: nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from controller.client.http import Reply
from controller.errors import EnvironmentProblem

_M = TypeVar("_M", bound=BaseModel)

Status = Literal["queued", "running", "complete", "partial", "failed", "cancelled"]


class RunLine(BaseModel):
    """A run in a list."""

    model_config = ConfigDict(extra="ignore")

    id: str = Field(pattern="^[0-9a-z]{26}$")
    status: Status
    name: str
    labels: dict[str, str]
    created_at: datetime

    @property
    def has_ended(self) -> bool:
        """Whether it is neither queued nor running."""
        return self.status not in ("queued", "running")


class Run(RunLine):
    """A run."""

    run: str | None
    ended_at: datetime | None
    summary: str
    advice: str
    failure: str
    environment: bool
    warnings: list[str]


class RunPage(BaseModel):
    """A page of a list."""

    model_config = ConfigDict(extra="ignore")

    runs: list[RunLine]
    next_cursor: str | None


def parsed(kind: type[_M], reply: Reply) -> _M:
    """An answer as a document. Raises :class:`EnvironmentProblem` if it is another one."""
    try:
        return kind.model_validate(reply.json())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise EnvironmentProblem(
            f"the answer of the service is not as expected: {where}: {first['msg']}",
            "check --server: is it a stenofleet service, of this version or a later one?",
        ) from None
