"""Old public names, which work for one more version, with a DeprecationWarning."""

import functools
import importlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def warn(old: str, new: str) -> None:
    """Warn that a name is deprecated.

    Args:
      old: the name used.
      new: the name to use.
    """
    text = f"{old} is now called {new}; the next version drops the old name."
    warnings.warn(text, DeprecationWarning, stacklevel=3)  # past a wrapper: the user's


def names(module: str, renamed: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module whose functions were renamed.

    Args:
      module: `__name__` of the module.
      renamed: old name -> new name.
    """

    def get(name: str) -> Any:
        if name not in renamed:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"{module}.{name}", renamed[name])
        return getattr(importlib.import_module(module), renamed[name])

    return get


def arguments(**renamed: str) -> Callable[[T], T]:
    """Return a decorator that lets a function accept renamed arguments under their old names.

    Args:
      renamed: old name = new name.
    """

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def call(*values, **options):
            for old in renamed.keys() & options.keys():
                warn(f"{function.__qualname__}({old}=...)", renamed[old])
                options[renamed[old]] = options.pop(old)
            return function(*values, **options)

        return call

    return decorate


def fields(**renamed: str) -> Callable[[type[T]], type[T]]:
    """Return a decorator that lets a dataclass or named tuple keep old names of its fields.

    Args:
      renamed: old name = new name.
    """

    def decorate(kind: Any) -> Any:
        def alias(old, new):
            def get(self):
                warn(f"{kind.__name__}.{old}", new)
                return getattr(self, new)

            return property(get, doc=f"Old name of `{new}`.")

        for old, new in renamed.items():
            setattr(kind, old, alias(old, new))
        made = "__new__" if issubclass(kind, tuple) else "__init__"
        setattr(kind, made, arguments(**renamed)(getattr(kind, made)))
        return kind

    return decorate
