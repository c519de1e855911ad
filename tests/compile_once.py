"""A fixture for tests that start the same program again and again; import it in a `conftest.py`."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True, scope="module")
def compile_once(tmp_path_factory):
    """Keeps what a test module compiles, in a directory of its own."""
    before = [getattr(jax.config, name) for name in NAMES]
    _configure(str(tmp_path_factory.mktemp("compiled")), 0.0)
    yield
    _configure(*before)


def _configure(*values):
    for name, value in zip(NAMES, values, strict=True):
        jax.config.update(name, value)
    compilation_cache.reset_cache()
