"""Delays the import of a library that another library imports at once, until it is used.

Touches: the table of imported modules.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def defer(name: str) -> None:
    """Make ``import name`` free until an attribute of the module is read. Then the module is loaded as usual.

    The standard library's ``LazyLoader`` cannot be used: a second import statement reads the module's ``__spec__``,
    which loads the module.
    """
    if name not in sys.modules:
        sys.modules[name] = _Deferred(name)


class _Deferred(ModuleType):
    """A placeholder for a module. Code that has imported it keeps it, so it forwards attributes to the real module."""

    def __getattr__(self, attribute: str) -> Any:
        # The import system reads names like __path__. That is no use of the module.
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)
