"""Tests of the compiled CPU kernel are skipped, by name, where there is no compiler to build it."""

import pytest

from rnnlab.kernels import build

needs_kernel = pytest.mark.skipif(
    build.load() is not None, reason="the CPU kernel cannot be built or loaded here"
)
