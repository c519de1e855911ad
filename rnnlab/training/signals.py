"""Requests to stop, such as a cluster sends before it takes the machine away."""

import signal
import threading
from types import FrameType


class StopRequest:
    """Turns the first SIGTERM or SIGINT into a request; a second one acts at once.

    A context manager. Signals reach the main thread only: elsewhere it changes nothing.

    Attributes:
      name: of the signal that came, None before.
    """

    def __init__(self):
        self.name: str | None = None
        self._before = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.__exit__()  # the next signal finds the handlers that were there before
        self.name = signal.Signals(number).name
