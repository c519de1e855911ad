"""Layer 3: ways of running a cell. `STRATEGIES` is the catalogue that flags and tests read."""

from rnnlab.strategies.associative import Associative as Associative
from rnnlab.strategies.auto import Auto as Auto
from rnnlab.strategies.base import Strategy
from rnnlab.strategies.chunkwise import Chunkwise as Chunkwise
from rnnlab.strategies.deferred import Deferred as Deferred
from rnnlab.strategies.fused import Fused as Fused
from rnnlab.strategies.remat import Remat as Remat
from rnnlab.strategies.scan import Scan as Scan
from rnnlab.strategies.unrolled import Unrolled as Unrolled

STRATEGIES: dict[str, type[Strategy]] = {
    "unrolled": Unrolled,
    "scan": Scan,
    "remat": Remat,
    "deferred": Deferred,
    "associative": Associative,
    "chunkwise": Chunkwise,
    "fused": Fused,
    "auto": Auto,
}
