"""Test-Time Personalization of 2-D human pose models in JAX.

`ttp_jax.load` and `ttp_jax.personalize` take and return arrays, see `ttp_jax.api`. They import jax
and flax on first use; importing the package alone imports neither.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["Adapter", "Model", "Result", "find", "load", "personalize"]

if TYPE_CHECKING:
    from ttp_jax.api import Adapter, Model, Result, find, load, personalize


def __getattr__(name: str):
    if name not in __all__:
        raise AttributeError(f"module 'ttp_jax' has no attribute {name!r}")
    from ttp_jax import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
