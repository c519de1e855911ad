"""Where this user's downloads and compiled programs are kept."""

import os
import pathlib


def user_cache() -> pathlib.Path:
    """`$XDG_CACHE_HOME/rnnlab`, else `~/.cache/rnnlab`; it need not exist."""
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rnnlab"
