"""Requests to stop, such as a cluster sends before it takes the machine away."""

import contextlib
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from types import FrameType
from typing import Any

import jax
from jax.experimental import multihost_utils

_POINTS = itertools.count()  # where several processes may stop together, numbered


class Interrupted(BaseException):
    """A stop was asked for, and what went on was broken off; no error, so nothing catches it."""


class StopRequest:
    """Turns the first SIGTERM or SIGINT into a request; a second one acts at once.

    A context manager. Signals reach the main thread only: elsewhere it changes nothing.

    Where several processes train together, a signal to one of them is a request to all. jax's
    coordination service picks the point at which each hears of it, a call of `requested` that all
    come to; it notices SIGTERM itself.

    Attributes:
      name: of the signal that came, None before.
      abandoned: whether a function of `wait_for` may still be running.
    """

    def __init__(self):
        self.name: str | None = None
        self.abandoned = False
        self._before = {}
        self._interruptible = False
        self._together = jax.process_count() > 1

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            numbers = (signal.SIGINT,) if self._together else (signal.SIGTERM, signal.SIGINT)
            for number in numbers:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.__exit__()  # the next signal finds the handlers that were there before
        if self._together:
            os.kill(os.getpid(), signal.SIGTERM)
            return
        self.name = signal.Signals(number).name
        if self._interruptible:
            raise Interrupted

    def requested(self) -> bool:
        """Whether to stop here."""
        if (
            self._together
            and not self.name
            and multihost_utils.reached_preemption_sync_point(next(_POINTS))
        ):
            self.name = "SIGTERM"
        return self.name is not None

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """A stretch that a signal breaks off with `Interrupted`, also one that came before.

        Not where several processes train: they would no longer be at the same point.
        """
        self._interruptible = not self._together
        try:
            if self._interruptible and self.name:
                raise Interrupted
            yield
        finally:
            self._interruptible = False

    def watch(self, items: Any) -> Iterator[Any]:
        """The items, until a stop is asked for."""
        for item in items:
            if self.requested():
                raise Interrupted
            yield item

    def wait_for(self, function: Callable[[], Any]) -> Any:
        """`function()`, from another thread, for no signal reaches the main one in foreign code."""
        if self._together or threading.current_thread() is not threading.main_thread():
            return function()
        result: Future = Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as error:  # raised again where it is waited for
                result.set_exception(error)

        with self.interruptible():
            threading.Thread(target=run, daemon=True).start()
            try:
                return result.result()
            except Interrupted:
                self.abandoned = True
                raise
