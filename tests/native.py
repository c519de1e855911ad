"""Tests of the compiled CPU kernel are skipped, by name, where there is no compiler to build it."""

import pytest

from rnnlab.kernels import build

needs_kernel = pytest.mark.skipif(
    build.compiler() is None, reason="the CPU kernel needs a C++ compiler, and there is none"
)
