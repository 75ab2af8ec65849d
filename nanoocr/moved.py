"""Import addresses of the previous release. Each still works, and warns once where its name lives now."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def moved(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Make the `__getattr__` of a module whose names have moved.

    Args:
            module: `__name__` of the module that calls this.
            homes: maps each name to the module that has it now.

    Raises:
        AttributeError: the returned function, for a name that is not in `homes`, as Python does itself.
    """

    def find(name: str) -> Any:
        """The `__getattr__` of the module."""
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        message = f"{module}.{name} has moved to {homes[name]}: the old address goes with the next release"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        found = getattr(importlib.import_module(homes[name]), name)
        # Python asks `__getattr__` only for missing names, so storing it here makes the warning appear once.
        setattr(sys.modules[module], name, found)
        return found

    return find
