"""Memory that is freed stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

from rnnlab.training import allocation

PAGES = 36 * 2**20 // 4096  # of the temporary below
PROGRAM = """
import resource
from rnnlab.training.allocation import keep_freed_memory
kept = keep_freed_memory()
import jax, jax.numpy as jnp

@jax.jit
def with_temporary(x):
    return jnp.sum(jax.lax.fori_loop(0, 2, lambda i, y: y.at[i].add(1), jnp.outer(x, x)))

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

x = jnp.ones(3072)
for _ in range(10):  # the heap still grows
    with_temporary(x).block_until_ready()
before = faults()
for _ in range(40):
    with_temporary(x).block_until_ready()
print(kept, (faults() - before) // 40)
"""
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


def faults_of_a_call(**environment):
    settings = allocation.SETTINGS
    plain = {name: text for name, text in os.environ.items() if not name.startswith(settings)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=plain | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = result.stdout.split()
    return kept == "True", int(faults)


@needs_glibc
def test_a_call_takes_no_fresh_pages_for_its_temporaries():
    kept, faults = faults_of_a_call()
    assert kept and faults < PAGES / 3  # the heap may grow a few times


@needs_glibc
@pytest.mark.parametrize("name", ["MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_"])
def test_settings_of_the_environment_stand(name):
    kept, _ = faults_of_a_call(**{name: "65536"})
    assert not kept


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not allocation.keep_freed_memory()
