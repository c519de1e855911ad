"""One process at a time in a run directory."""

import fcntl
import os
import pathlib


class RunLock:
    """Keeps a second process out of a run directory; a context manager.

    The lock is the kernel's, on an open file: it ends with the process, however that ends.

    Raises:
      RuntimeError: another process is in there, with its number. (On entering.)
      OSError: nothing can be written there. (On entering.)
    """

    def __init__(self, directory: pathlib.Path):
        self._path = directory / "lock"
        self._file: int | None = None

    def __enter__(self) -> "RunLock":
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise OSError(
                error.errno,
                f"workdir: expected a directory to write in, got {self._path.parent}"
                f" ({error.strerror}). Name another --workdir.",
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = os.read(self._file, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise RuntimeError(
                f"{self._path.parent}: process {other} is training here. Wait for it to end, or"
                " name another --workdir."
            ) from error
        os.ftruncate(self._file, 0)
        os.write(self._file, f"{os.getpid()}\n".encode())
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            os.close(self._file)  # the file stays: to remove it could let two processes in
        self._file = None
