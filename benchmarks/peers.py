"""How fast is rnnlab beside flax linen, flax nnx, haiku, equinox, keras and torch?

    python -m benchmarks.peers --out=benchmarks/results/peers.json

Every library has the same weights in float32, and values and gradients are compared with our `Scan`
in float64 before anything is timed. In three modes: forward (all outputs and the last carry),
backward (forward, and the gradients of all parameters and inputs through all outputs) and step (one
time step). Cells that torch has no kernel for are timed beside a loop over time in torch.

For `Auto` and every strategy the answer is how many times as fast as the fastest jax library, and
as torch, it is. --out also writes tables (.md) and a picture (.png) beside the JSON file.
"""

import functools
import pathlib
import shlex
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import jax
from absl import app, flags

from benchmarks import peer_report, timing
from benchmarks.cases import CPU_SHAPES, Shape
from benchmarks.peer_arms import JAX_PEERS
from benchmarks.peer_cases import (
    CELLS,
    LAYERS,
    MODES,
    TOLERANCE,
    TOLERANCES,
    Arm,
    Contender,
    deviation,
    draw_data,
    draw_params,
    flops,
    jax_arm,
    ours,
    reference,
)
from rnnlab.core import Cell
from rnnlab.strategies import STRATEGIES, Scan

PEERS = (*JAX_PEERS, "torch")
PACKAGES = ("jax", "jaxlib", "flax", "dm-haiku", "equinox", "keras", "torch")

_CELLS = flags.DEFINE_list("cells", ",".join(CELLS), "Names of cells.")
_SHAPES = flags.DEFINE_list(
    "shapes", ",".join(":".join(map(str, shape)) for shape in CPU_SHAPES), "H:B:T of each shape."
)
_MODES = flags.DEFINE_list("modes", ",".join(MODES), "What is timed.")
_STRATEGIES = flags.DEFINE_list(
    "strategies", "scan,deferred,fused,associative,auto", "Ours; what cannot run is left out."
)
_PEERS = flags.DEFINE_list("peers", ",".join(PEERS), "Other libraries; torch also in a loop.")
_BLOCKS = flags.DEFINE_integer("blocks", 7, "Interleaved blocks.", lower_bound=1)
_BLOCK_SECONDS = flags.DEFINE_float("block_seconds", 0.03, "Of one arm in a block.", 0.0)
_THREADS = flags.DEFINE_integer("threads", 2, "Cores to run on.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "", "JSON file; .md and .png go beside it. Empty writes none.")


def _is_shape(text: str) -> bool:
    sizes = text.split(":")
    return len(sizes) == 3 and all(size.isdigit() and int(size) > 0 for size in sizes)


for _flag, _known in ((_CELLS, CELLS), (_MODES, MODES), (_PEERS, PEERS)):
    flags.register_validator(
        _flag,
        lambda names, known=_known: set(names) <= set(known),
        f"expected names among {', '.join(_known)}",
    )
flags.register_validator(
    _SHAPES, lambda shapes: all(map(_is_shape, shapes)), "expected H:B:T, each >= 1"
)


@functools.cache
def say_once(text: str) -> None:
    """Prints what would be the same for every shape."""
    print(text, flush=True)


def strategies(name: str, cell: Cell) -> dict[str, Contender]:
    """Ours, by name; says why one is left out."""
    contenders = {}
    for strategy in _STRATEGIES.value:
        if strategy not in STRATEGIES:
            say_once(f"{strategy}, left out: not among {', '.join(STRATEGIES)}")
            continue
        refusal = STRATEGIES[strategy]().refusal(cell)
        if refusal:
            say_once(f"{strategy} of {name}, left out: {refusal.split('. ')[0]}")
        else:
            contenders[strategy] = ours(cell, STRATEGIES[strategy]())
    return contenders


def jax_peers(cell: str, features: int) -> dict[str, Contender]:
    """Layers of other jax libraries, by name; says why one is left out."""
    contenders = {}
    for name in _PEERS.value:
        if name == "torch" or cell not in LAYERS:
            continue
        try:
            contender = JAX_PEERS[name](cell, features)
        except ImportError as error:
            say_once(f"{name}, left out: {error}")
            continue
        if contender is None:
            say_once(f"{name} of {cell}, left out: it has none")
        else:
            contenders[name] = contender
    return contenders


def torch_module() -> Any:
    """`benchmarks.peer_torch`, or None where it is not asked for or torch is not installed."""
    if "torch" not in _PEERS.value:
        return None
    try:
        from benchmarks import peer_torch  # torch exists for few versions of Python
    except ImportError as error:
        say_once(f"torch, left out: {error}")
        return None
    peer_torch.torch.set_num_threads(_THREADS.value)
    return peer_torch


class Competition:
    """All that run one cell at one shape, with their weights."""

    def __init__(self, name: str, shape: Shape, torch: Any):
        self.name, self.shape, self.torch = name, shape, torch
        self.cell = CELLS[name](shape.features)
        self.own, self.peers = strategies(name, self.cell), jax_peers(name, shape.features)
        cells = {self.cell, *(contender.cell for contender in self.peers.values())}
        self.params = {cell: draw_params(cell, shape.features) for cell in cells}
        self.weights = {
            name: jax.jit(contender.convert)(self.params[contender.cell])
            for name, contender in self.peers.items()
        }
        params = self.params[self.cell]
        self.data = draw_data(self.cell, params, shape)
        self.model = torch.model(name, shape.features, params) if torch else None

    def arms(self, mode: str) -> Iterator[tuple[str, Arm, float]]:
        """Every arm: its name, itself, and its deviation from the reference."""
        expected = {
            cell: reference(cell, params, self.data, mode) for cell, params in self.params.items()
        }
        # A step is the same with all strategies.
        own = {"step": ours(self.cell, Scan())} if mode == "step" else self.own
        for name, contender in (own | self.peers).items():
            params = self.params[contender.cell]
            arm = jax_arm(contender, self.weights.get(name, params), params, self.data, mode)
            away = deviation(arm.result, expected[contender.cell], mode, contender.lacks)
            yield name, arm, away
        if self.model:
            arm = self.torch.arm(self.model, self.params[self.cell], self.data, mode)
            yield "torch", arm, deviation(arm.result, expected[self.cell], mode)

    def measure(self, mode: str, peak: float) -> dict[str, Any]:
        """Compares and times all arms in one mode.

        Args:
          mode: one of `MODES`.
          peak: matmul floating-point operations a second.
        """
        calls, rows = {}, {}
        for name, arm, away in self.arms(mode):
            where = f"{name}, {self.name} at {self.shape}, {mode}"
            timing.require_parity(where, away, TOLERANCES.get(self.name, TOLERANCE))
            calls[name] = arm.call
            rows[name] = {"deviation": away} | compilation(arm)
        times = timing.measure(calls, _BLOCKS.value, _BLOCK_SECONDS.value)
        least = flops(self.params[self.cell], self.shape, mode) / peak
        for name, row in rows.items():
            blocks = times[name].blocks
            row |= {"seconds": times[name].median, "range": (min(blocks), max(blocks))}
            row["roofline_share"] = least / times[name].median
        case = {"cell": self.name, "mode": mode, "shape": self.shape._asdict()}
        return case | peer_report.speedups(times, list(_PEERS.value)) | {"arms": rows}


def compilation(arm: Arm) -> dict[str, Any]:
    """What an arm of jax took to make."""
    if arm.program is None:
        return {}
    names = ("trace_seconds", "compile_seconds", "temporary_bytes")
    return {name: getattr(arm.program, name) for name in names}


def shapes() -> list[Shape]:
    """Those of the flag."""
    return [Shape(*map(int, text.split(":"))) for text in _SHAPES.value]


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    timing.prepare(_THREADS.value)
    torch = torch_module()
    versions = {package: version(package) for package in PACKAGES}
    result: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]]),
        "versions": versions,
        "protocol": {"blocks": _BLOCKS.value, "block_seconds": _BLOCK_SECONDS.value},
        "matmul_flops_per_second": timing.matmul_flops_per_second(),
        "rows": [],
    }
    print(timing.machine() | versions)
    started = time.perf_counter()
    for cell in _CELLS.value:
        for shape in shapes():
            for row in measure(cell, shape, torch, result["matmul_flops_per_second"]):
                result["rows"].append(row)
                elapsed = time.perf_counter() - started
                print(f"{elapsed:5.0f} s: {peer_report.line(row)}", flush=True)
            write(result)
        draw(result["rows"])  # takes a while
    print(peer_report.summary(result["rows"]))


def measure(cell: str, shape: Shape, torch: Any, peak: float) -> Iterator[dict[str, Any]]:
    """A row for each mode; a loop in torch is about whole sequences."""
    competition = Competition(cell, shape, torch)
    for mode in _MODES.value:
        if mode != "step" or cell in LAYERS:
            yield competition.measure(mode, peak)


def version(package: str) -> str:
    """The installed one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def write(result: dict[str, Any]) -> None:
    """The JSON file and the tables, where they are asked for."""
    if _OUT.value:
        path = pathlib.Path(_OUT.value)
        timing.save(path, result)
        path.with_suffix(".md").write_text(peer_report.markdown(result, timing.machine()))


def draw(rows: list[dict[str, Any]]) -> None:
    """The picture, where it is asked for."""
    if _OUT.value:
        peer_report.draw(rows, pathlib.Path(_OUT.value).with_suffix(".png"))


if __name__ == "__main__":
    app.run(main)
