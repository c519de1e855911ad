"""What of `processes` one process can show; tests/reliability shows the rest with two."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.training import processes


def test_one_process_is_the_first_and_keeps_its_own():
    tree = {"a": np.float32(-0.0)}
    assert processes.is_first()
    assert processes.on_first(lambda: {"x": 1}) == {"x": 1}
    assert processes.from_first(tree) is tree
    found = processes.to_host({"a": jnp.ones(2)})
    assert isinstance(found["a"], np.ndarray) and found["a"].tolist() == [1, 1]


def test_nobody_to_join(monkeypatch):
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("joined"))
    processes.join()


@pytest.mark.parametrize("given", [{"JAX_NUM_PROCESSES": "2"}, {"JAX_PROCESS_ID": "0"}])
def test_half_an_environment_is_refused(monkeypatch, given):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="expected JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and"):
        processes.join()


def test_a_number_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    monkeypatch.setenv("JAX_PROCESS_ID", "0")
    with pytest.raises(ValueError, match="JAX_NUM_PROCESSES: expected a number, got 'two'"):
        processes.join()


def test_no_cluster_is_refused(monkeypatch):
    def initialize(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match="distributed: expected a cluster that jax knows"):
        processes.join(distributed=True)
