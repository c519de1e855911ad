"""Runs a function of the step ahead of time: in this process, or in worker processes."""

import atexit
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def run_steps(function: Callable[[int], T], first_step: int = 0, workers: int = 0) -> Iterator[T]:
    """`function(first_step)`, `function(first_step + 1)`, ... without end.

    The results are the same whatever the number of workers, and so is their order. A worker is a
    process of its own that gets a copy of `function` and all it refers to; the module that starts
    it needs the usual `if __name__ == "__main__":`. Where absl's flags were not parsed yet, they
    are marked as parsed, with their defaults: grain has flags of its own.

    Args:
      function: of the step alone; with workers, one that can be sent to another process.
      first_step: where to start.
      workers: processes that compute ahead, with grain; 0 computes here, when asked.

    Returns:
      An iterator. Closing it ends the workers, and so does letting go of it.

    Raises:
      ModuleNotFoundError: workers without grain, of the extra `data`.

    Example:
        >>> import itertools
        >>> list(itertools.islice(run_steps(lambda step: step**2, first_step=3), 3))
        [9, 16, 25]
    """
    if workers == 0:
        return map(function, itertools.count(first_step))
    results = _run_in_workers(function, first_step, workers, _import_grain())
    _running.add(results)
    return results


_running: weakref.WeakSet = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Ends the workers before the interpreter takes apart what they need to end in order."""
    for results in list(_running):
        results.close()


def _import_grain() -> Any:
    try:
        import grain  # an optional extra, and slow to import
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "workers: expected grain to be installed, to run processes. Use workers=0, or:"
            " pip install 'rnnlab[data]'"
        ) from error
    from absl import flags

    if not flags.FLAGS.is_parsed():  # to read one would be an error
        flags.FLAGS.mark_as_parsed()
    return grain


def _run_in_workers(function, first_step: int, workers: int, grain: Any) -> Generator[Any]:
    dataset = (
        grain.MapDataset.range(first_step, sys.maxsize)
        .map(function)
        .to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
    )
    # Results come through pipes: shared memory is left behind by a process that is killed, and its
    # arrays are no plain ones.
    options = grain.experimental.DatasetOptions(min_shm_size=sys.maxsize)
    steps = iter(
        grain.experimental.WithOptionsIterDataset(dataset, options).mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2),
            worker_init_fn=_prepare_worker,
        )
    )
    try:
        yield from steps
    finally:
        steps.close()


def _prepare_worker(index: int, count: int) -> None:
    """Leaves signals to the process that started this worker, and ends with it."""
    del index, count
    for number in (signal.SIGINT, signal.SIGTERM):  # both also reach a whole process group
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    """Ends this process when its parent does, even one that was killed."""
    parent.join()
    os._exit(1)
