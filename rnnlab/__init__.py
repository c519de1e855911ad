"""rnnlab: recurrent networks in JAX. A cell is written once; every way of running it agrees.

Names are imported when they are first used, so that what needs no jax, such as `rnnlab --help`,
does not wait for it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnnlab import cells as cells
    from rnnlab import core as core
    from rnnlab import dropout as dropout
    from rnnlab import engine as engine
    from rnnlab import select as select
    from rnnlab import sequences as sequences
    from rnnlab import strategies as strategies
    from rnnlab import testing as testing
    from rnnlab.core import AffineCell as AffineCell
    from rnnlab.core import Cell as Cell
    from rnnlab.core import GatedCell as GatedCell
    from rnnlab.core import LinearCell as LinearCell
    from rnnlab.core import MatrixCell as MatrixCell
    from rnnlab.engine import unroll as unroll
    from rnnlab.sequences import bidirectional as bidirectional
    from rnnlab.sequences import lengths_to_mask as lengths_to_mask

__version__ = "0.1.0"

_MODULES = frozenset(
    ("cells", "core", "dropout", "engine", "select", "sequences", "strategies", "testing")
)
_HOMES = {
    "AffineCell": "core",
    "Cell": "core",
    "GatedCell": "core",
    "LinearCell": "core",
    "MatrixCell": "core",
    "unroll": "engine",
    "bidirectional": "sequences",
    "lengths_to_mask": "sequences",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"rnnlab.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"rnnlab.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'rnnlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_HOMES})
