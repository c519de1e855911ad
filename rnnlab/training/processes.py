"""Several processes that train one model together: how they meet, and what they tell each other.

They run the same program on the same batches, so they come to every call of this module in the
same order. The first of them alone reads and writes the run directory, and prints.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from rnnlab.core.types import PyTree

Result = TypeVar("Result")

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
"""Environment variables that `python -m rnnlab.launch` sets for each of its processes."""

NETWORKS = ("Gloo", "NCCL", "coordination service")
"""What the error of a computation names that another process no longer takes part in."""


def join(distributed: bool = False, heartbeat_seconds: int = 30) -> None:
    """Meets the other processes of a run, where there are some; before anything is computed.

    Args:
      distributed: whether to look for a cluster that jax knows (Slurm, a TPU pod, Open MPI). The
        processes of `rnnlab.launch` meet without that.
      heartbeat_seconds: how long a process may be silent before the others end themselves.

    Raises:
      ValueError: an environment that says only a part, or no cluster where one is expected.
    """
    if jax.distributed.is_initialized():
        return
    given = [name for name in (ADDRESS, COUNT, INDEX) if name in os.environ]
    known: dict[str, Any] = {}
    if len(given) == 3:
        known = {
            "coordinator_address": os.environ[ADDRESS],
            "num_processes": _number(COUNT),
            "process_id": _number(INDEX),
        }
    elif COUNT in given or INDEX in given:
        raise ValueError(f"expected {ADDRESS}, {COUNT} and {INDEX} together, got {given}.")
    elif not distributed:
        return
    try:
        jax.distributed.initialize(
            **known,
            heartbeat_timeout_seconds=heartbeat_seconds,
        )
    except ValueError as error:
        raise ValueError(
            "distributed: expected a cluster that jax knows (Slurm, a TPU pod, Open MPI) or the"
            f" variables {ADDRESS}, {COUNT} and {INDEX}, found neither ({error})."
        ) from error
    sys.excepthook = _end_by_error
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, open to the end


def _number(name: str) -> int:
    if not os.environ[name].isdecimal():
        raise ValueError(f"{name}: expected a number, got {os.environ[name]!r}.")
    return int(os.environ[name])


def _end_by_error(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Ends this process at once: leaving in order would wait for others, who wait for this one."""
    if any(network in str(error) for network in NETWORKS):  # of several types
        reason = str(error).splitlines()[0]
        print(
            f"error: another process of this run has gone ({reason}). The same command goes on from"
            " the last checkpoint.",
            file=sys.stderr,
        )
    else:
        traceback.print_exception(kind, error, trace)
    end_at_once(1)


def end_at_once(code: int) -> NoReturn:
    """Ends this process as it is: what waits in other threads or for other processes is left."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def is_first() -> bool:
    """Whether this process is the one that reads, writes and speaks."""
    return jax.process_index() == 0


def on_first(function: Callable[[], Result]) -> Result:
    """Runs `function` in the first process alone; every process gets its result, made of JSON.

    Where it raises an error, that is raised in the first process; the others leave with the exit
    code of a SystemExit, and else end at once.
    """
    if jax.process_count() == 1:
        return function()
    outcome, error = {}, None
    if is_first():
        try:
            outcome = {"result": function()}
        except SystemExit as caught:
            outcome, error = {"code": caught.code}, caught
        except BaseException as caught:
            outcome, error = {"error": True}, caught
    outcome = json.loads(_send(json.dumps(outcome).encode()))
    if error is not None:
        raise error
    if "code" in outcome:
        raise SystemExit(outcome["code"])
    if "error" in outcome:
        end_at_once(1)
    return outcome["result"]


def _send(content: bytes) -> bytes:
    """The bytes of the first process."""
    size = multihost_utils.broadcast_one_to_all(np.array(len(content), np.uint32))
    padded = np.zeros(int(size), np.uint8)
    padded[: len(content)] = np.frombuffer(content, np.uint8)[: int(size)]
    return multihost_utils.broadcast_one_to_all(padded).tobytes()


def from_first(tree: PyTree) -> PyTree:
    """The arrays of the first process, to the bit; the others give shapes and dtypes.

    What jax sends is added up on the way, which would turn -0.0 into 0.0: so bytes are sent.
    """
    if jax.process_count() == 1:
        return tree

    def send(leaf: Any) -> np.ndarray:
        leaf = leaf if is_first() else np.zeros(leaf.shape, leaf.dtype)
        raw = np.frombuffer(np.ascontiguousarray(leaf).tobytes(), np.uint8)
        sent = np.asarray(multihost_utils.broadcast_one_to_all(raw))
        return np.frombuffer(sent.tobytes(), leaf.dtype).reshape(leaf.shape)

    return jax.tree.map(send, tree)


def to_host(tree: PyTree) -> PyTree:
    """Whole numpy arrays of a tree, in every process, also of what is spread over processes."""

    def whole(leaf: jax.Array) -> Any:
        if leaf.is_fully_addressable or leaf.is_fully_replicated:
            return leaf
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))
