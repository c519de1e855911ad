import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

from rnnlab.cli import doctor, machine, main

ROOT = pathlib.Path(__file__).parents[2]
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}


@pytest.fixture
def quick(monkeypatch):
    """No jax process: its answer is given."""
    answer = {"backend": "cpu", "devices": ["0: cpu"]}
    monkeypatch.setattr(machine, "start_jax", lambda: None)
    monkeypatch.setattr(machine, "finish_jax", lambda process, timeout: answer)
    return answer


@pytest.mark.slow
def test_jax_is_asked_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    answer = machine.finish_jax(machine.start_jax(), timeout=60)
    assert answer["backend"] == "cpu"
    assert answer["devices"][0] == "0: cpu"


@pytest.mark.parametrize(
    ("code", "timeout", "problem"),
    [
        ("import time; time.sleep(60)", 0.2, "jax found no devices in 0.2 s"),
        ("raise RuntimeError('no such backend')", 30, "RuntimeError: no such backend"),
    ],
)
def test_devices_that_hang_or_fail_are_a_problem(monkeypatch, capsys, code, timeout, problem):
    monkeypatch.setattr(machine, "ASK_JAX", code)
    assert main(["doctor", f"--timeout={timeout}"]) == 1
    assert f"broken: {problem}" in capsys.readouterr().out


def test_json_is_one_object_with_every_section(quick, capsys):
    assert main(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["jax"] == quick
    assert facts["problems"] == []
    assert facts["packages"].keys() == set(machine.CORE)
    assert facts["sigterm"]["self-test"] == "caught"
    assert {"system", "extras", "distributed", "disk", "settings"} <= facts.keys()


def test_text_has_what_json_has(quick, capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for line in ("  backend  cpu", "  devices  0: cpu", "all that rnnlab needs is here"):
        assert f"\n{line}\n" in printed


def test_a_missing_core_package_is_a_problem(quick, monkeypatch, capsys):
    monkeypatch.setattr(machine, "CORE", ("jax", "not-there"))
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "broken: not-there is not installed" in printed


def test_a_missing_extra_says_what_it_is_for_and_how_to_install_it(monkeypatch):
    monkeypatch.setattr(machine, "EXTRAS", {"plot": ("pictures", ("not-there",))})
    assert machine.extras() == {"plot": "missing, for pictures: pip install 'rnnlab[plot]'"}
    monkeypatch.setattr(machine, "EXTRAS", {"plot": ("pictures", ("numpy",))})
    assert machine.extras() == {"plot": f"numpy {machine.version('numpy')}"}


def test_core_and_extras_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    def names(requirements):
        return {re.match(r"[\w-]+", requirement)[0] for requirement in requirements}

    assert names(project["dependencies"]) | {"jaxlib"} == set(machine.CORE)
    assert project["optional-dependencies"].keys() == machine.EXTRAS.keys()
    for extra, requirements in project["optional-dependencies"].items():
        if names(requirements) != {"jax"}:  # those pass through to an extra of jax's
            assert names(requirements) == set(machine.EXTRAS[extra][1])


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, "none; one process"),
        (SLURM, "Slurm"),
        ({"SLURM_JOB_ID": "7"}, "none; one process"),  # a batch script, no task of srun
        ({"JAX_COORDINATOR_ADDRESS": "n1:1234"}, "named by hand"),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "Kubernetes"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU pod"),
        ({"OMPI_MCA_orte_hnp_uri": "1;tcp://"}, "Open MPI"),
    ],
)
def test_distributed_environments(environment, found):
    facts = machine.distributed({"HOME": "/", **environment})
    assert facts.pop("found") == found
    assert facts == environment


def test_the_variables_of_torch_are_pointed_out():
    facts = machine.distributed({"MASTER_ADDR": "n1", "RANK": "0"})
    assert "JAX_COORDINATOR_ADDRESS" in facts["note"]
    assert facts["MASTER_ADDR"] == "n1"


@pytest.mark.peers
@pytest.mark.parametrize("environment", [{}, SLURM, {"SLURM_JOB_ID": "7"}])
def test_jax_finds_the_same_slurm(environment, monkeypatch):
    """Our table against what jax itself looks at."""
    clusters = pytest.importorskip("jax._src.clusters")
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ours = machine.distributed(os.environ)["found"] == "Slurm"
    assert clusters.SlurmCluster.is_env_present() == ours


def test_settings_are_those_that_change_what_jax_does():
    environment = {"XLA_FLAGS": "--a", "JAX_PLATFORMS": "cpu", "PATH": "/bin", "EDITOR": "vi"}
    assert machine.settings(environment) == {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--a"}


def test_disks(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    (tmp_path / "program").write_bytes(b"x" * 1500)
    facts = machine.disks(str(tmp_path / "not" / "yet"))
    assert facts["compiled programs"] == f"1.5 kB in 1 files, {tmp_path}"
    assert facts["data"].endswith("not/yet, to be made")
    assert re.match(r"[\d.]+ [kMGT]?B free, ", facts["working directory"])


def test_disks_without_a_home(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(machine, "user_cache", homeless)
    for name in ("RNNLAB_DATA", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    facts = machine.disks(None)
    assert facts["data"] == facts["compiled programs"] == "none: there is no home directory"
    assert "free" in facts["working directory"]


def sigterm_in_child(before):
    """The facts as a process sees them in which `before` was run."""
    code = f"import json, signal; {before}; from rnnlab.cli import machine;"
    code += " print(json.dumps(machine.sigterm()))"
    command = [sys.executable, "-c", code]
    return json.loads(subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout)


def test_sigterm_gets_through():
    assert sigterm_in_child("pass") == {"inherited": "the default", "self-test": "caught"}
    ignored = sigterm_in_child("signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    assert "ignored by the parent" in ignored["inherited"]
    assert ignored["self-test"] == "caught"


@pytest.mark.slow
def test_a_blocked_sigterm_is_found():
    blocked = sigterm_in_child("signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})")
    assert "blocked" in blocked["inherited"]
    assert blocked["self-test"] == "failed"


def test_a_failed_self_test_is_a_problem():
    facts = {"packages": {}, "jax": {}, "sigterm": {"self-test": "failed"}}
    assert doctor.find_problems(facts) == ["a process did not get the SIGTERM that was sent to it"]
