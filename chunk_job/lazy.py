"""A library that another library imports at once, loaded when something of it is used.

Touches: the table of imported modules.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any


def defer(name: str) -> None:
    """Let ``import name`` cost nothing until an attribute of the module is asked for; it loads as usual then.

    The standard library's ``LazyLoader`` does not serve here: the import statement of a second importer reads the
    module's ``__spec__``, and that alone makes it load.
    """
    if name not in sys.modules:
        sys.modules[name] = _Deferred(name)


class _Deferred(ModuleType):
    """Stands in for a module; whoever has bound it goes on holding it, so it answers for the real one."""

    def __getattr__(self, attribute: str) -> Any:
        # The import system looks for names like __path__, and asking is not using.
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)
