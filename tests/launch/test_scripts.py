"""The scripts of launch/: what they name exists, what they say agrees, and Slurm, faked."""

import importlib
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import pytest
import yaml

from rnnlab.training.config import PREEMPTED

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "launch"
SLURM, TPU = FOLDER / "slurm.sh", FOLDER / "tpu_vm.sh"
CLAIM, JOBSET = yaml.safe_load_all((FOLDER / "jobset.yaml").read_text())
SKY = yaml.safe_load((FOLDER / "skypilot.yaml").read_text())
JOB = JOBSET["spec"]["replicatedJobs"][0]
(CONTAINER,) = JOB["template"]["spec"]["template"]["spec"]["containers"]

SHELL = {
    "slurm.sh": SLURM.read_text(),
    "tpu_vm.sh": TPU.read_text(),
    "skypilot.yaml: setup": SKY["setup"],
    "skypilot.yaml: run": SKY["run"],
}
SKYPILOT_SETS = {"SKYPILOT_NODE_IPS", "SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES"}
READS = {  # what a script may read, of what its system and its user set
    "slurm.sh": {"SLURM_JOB_ID"},
    "tpu_vm.sh": {"TPU", "ZONE", "SHARE", "TYPE", "RUNTIME"},
    "skypilot.yaml: setup": set(),
    "skypilot.yaml: run": SKYPILOT_SETS | set(SKY["envs"]),
}


def experiment_commands():
    """File -> module and flags of each command of an experiment that stands in it."""
    args = [*CONTAINER["command"], *CONTAINER["args"]]
    texts = {name: SHELL[name] for name in SHELL if "experiments" in SHELL[name]}
    texts["jobset.yaml"] = shlex.join(args)
    texts["skypilot.yaml: run"] = SKY["run"].replace("$FLAGS", SKY["envs"]["FLAGS"])
    for name, text in texts.items():
        joined = text.replace("\\\n", " ")
        for line in joined.splitlines():
            if found := re.search(r"-m (experiments\.\w+)(.*)", line):
                yield name, found[1], re.findall(r"--\w+=?[\w./]*", found[2])
    for name in ("slurm.sh", "tpu_vm.sh"):  # the examples in their comments
        (example,) = re.findall(r"# .*(?:slurm\.sh|run) (--.*)", SHELL[name])
        yield name, "experiments.language_model", example.split()


COMMANDS = list(experiment_commands())


def test_every_script_starts_an_experiment():
    assert len(COMMANDS) == 6
    names = {name.split(":")[0] for name, _, _ in COMMANDS}
    assert names == {path.name for path in FOLDER.iterdir()} - {"README.md"}


@pytest.mark.parametrize(("name", "module", "flags"), COMMANDS)
def test_modules_and_flags_exist(name, module, flags):
    values = importlib.import_module(module).FLAGS
    assert flags
    try:
        assert values(["program", *flags]) == ["program"]  # parses, and raises on what is unknown
    finally:
        values.unparse_flags()


def test_every_cluster_is_met():
    """By jax's own detection where jax knows the system, by the three variables elsewhere."""
    three = {"JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"}
    for name in ("slurm.sh", "tpu_vm.sh"):
        assert any("--distributed" in flags for file, _, flags in COMMANDS if file == name)
    assert three <= {variable["name"] for variable in CONTAINER["env"]}
    assert three <= set(re.findall(r"(\w+)=", SKY["run"]))


@pytest.mark.parametrize("name", SHELL)
def test_shell_is_well_formed(name):
    result = subprocess.run(["bash", "-n"], input=SHELL[name], text=True, capture_output=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("name", SHELL)
def test_variables_are_known(name):
    assert set(re.findall(r"\$\{?([A-Z_]+)", SHELL[name])) == READS[name]


@pytest.mark.parametrize("path", [SLURM, TPU])
def test_scripts_are_short_strict_and_executable(path):
    text = path.read_text()
    assert text.startswith("#!/bin/bash\n") and "set -euo pipefail" in text
    assert len(text.splitlines()) <= 40
    assert os.access(path, os.X_OK)


# Kubernetes


def test_jobset_counts_agree():
    spec = JOB["template"]["spec"]
    variables = {one["name"]: one.get("value") for one in CONTAINER["env"]}
    assert JOBSET["kind"] == "JobSet" and JOBSET["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"] == int(variables["JAX_NUM_PROCESSES"])
    assert JOB.get("replicas", 1) == 1  # the index counts the pods of one job


def test_jobset_coordinator_is_the_first_pod():
    (address,) = [v["value"] for v in CONTAINER["env"] if v["name"] == "JAX_COORDINATOR_ADDRESS"]
    name = JOBSET["metadata"]["name"]  # also the service, where `network` names no other
    host, port = address.split(":")
    assert host == f"{name}-{JOB['name']}-0-0.{name}"
    assert 1024 <= int(port) < 65536
    (index,) = [v["valueFrom"] for v in CONTAINER["env"] if v["name"] == "JAX_PROCESS_ID"]
    path = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert index == {"fieldRef": {"fieldPath": path}}


def test_jobset_starts_again_after_a_stop_as_often_as_it_takes():
    spec = JOB["template"]["spec"]
    codes, disruption = spec["podFailurePolicy"]["rules"]
    assert codes["action"] == disruption["action"] == "FailJob"
    exits = {"containerName": CONTAINER["name"], "operator": "In", "values": [PREEMPTED]}
    assert codes["onExitCodes"] == exits
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget"}]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # a podFailurePolicy asks for it
    assert spec["backoffLimit"] == 0
    (rule,) = JOBSET["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "RestartJobSetAndIgnoreMaxRestarts"
    assert rule["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert JOBSET["spec"]["failurePolicy"]["maxRestarts"] >= 1


def test_jobset_writes_to_the_volume():
    pod = JOB["template"]["spec"]["template"]["spec"]
    (volume,), (mount,) = pod["volumes"], CONTAINER["volumeMounts"]
    assert CLAIM["kind"] == "PersistentVolumeClaim"
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteMany"]
    assert volume["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    assert mount["name"] == volume["name"]
    (workdir,) = [arg for arg in CONTAINER["args"] if arg.startswith("--workdir=")]
    assert workdir.startswith(f"--workdir={mount['mountPath']}/")


# SkyPilot


def test_skypilot_recovers_after_a_stop_and_writes_to_the_bucket():
    recovery = SKY["resources"]["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [PREEMPTED]
    assert SKY["resources"]["use_spot"] and SKY["num_nodes"] >= 2
    (mount,) = SKY["file_mounts"]
    assert f"--workdir={mount}/" in SKY["envs"]["FLAGS"]
    extras = re.search(r"\.\[(.*)\]", SKY["setup"])[1].split(",")
    assert set(extras) <= set(
        re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    )


@pytest.mark.parametrize("rank", [0, 1])
def test_skypilot_run_gives_each_node_its_place(rank, tmp_path):
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    executable(python, 'echo "$JAX_COORDINATOR_ADDRESS $JAX_NUM_PROCESSES $JAX_PROCESS_ID $*"')
    ips = "10.0.0.1\n10.0.0.2"
    own = {"SKYPILOT_NODE_IPS": ips, "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": str(rank)}
    environment = {**os.environ, **own, **SKY["envs"]}
    result = subprocess.run(
        ["bash", "-c", SKY["run"]], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    flags = f"--heartbeat_seconds=30 {SKY['envs']['FLAGS']}"
    assert result.stdout == f"10.0.0.1:8476 2 {rank} -m experiments.language_model {flags}\n"


# Slurm and gcloud, faked by programs that come first in PATH

SRUN = """
while [[ "$1" == --* ]]; do echo "srun $1" >> "$LOG"; shift; done
export SLURM_STEP_NODELIST=localhost SLURM_NTASKS=2 SLURM_STEP_NUM_NODES=1
for rank in 0 1; do
  SLURM_PROCID=$rank SLURM_LOCALID=$rank "$@" &
  tasks+=($!)
done
highest=0
for task in "${tasks[@]}"; do
  code=0; wait "$task" || code=$?
  (( code > highest )) && highest=$code
done
exit $highest
"""


def executable(path, body):
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts programs first in PATH; they may write to $LOG."""

    def fake(**bodies):
        for name, body in bodies.items():
            executable(tmp_path / name, body)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setenv("LOG", str(tmp_path / "log"))
        return tmp_path / "log"

    return fake


@pytest.fixture
def slurm(fake, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", str(os.getpid()))  # jax makes the coordinator's port of it

    def slurm(python):
        return fake(srun=SRUN, scontrol='echo "scontrol $*" >> "$LOG"', python=python)

    return slurm


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((75, 75), 75), ((3, 3), 3), ((0, 5), 5), ((1, 137), 137)]
)
def test_slurm_queues_again_after_a_stop_and_only_then(slurm, codes, code):
    log = slurm(
        f'codes=({codes[0]} {codes[1]}); echo "$*" >> "$LOG"; exit ${{codes[SLURM_PROCID]}}'
    )
    result = subprocess.run([SLURM, "--seed=1", "--workdir=a b"], cwd=ROOT)
    assert result.returncode == code
    srun, *rest = log.read_text().splitlines()
    assert srun == "srun --kill-on-bad-exit=0"
    started = "-m experiments.language_model --distributed --heartbeat_seconds=30 --seed=1"
    assert rest[:2] == [f"{started} --workdir=a b"] * 2
    assert rest[2:] == ([f"scontrol requeue {os.getpid()}"] if code == PREEMPTED else [])


def test_slurm_directives():
    """TERM goes to the tasks, not to the script, which has to see how they end."""
    directives = dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)", SHELL["slurm.sh"], re.M))
    assert directives["signal"] == "TERM@120"
    assert directives["open-mode"] == "append" and "requeue" in directives
    assert directives["ntasks-per-node"] == directives["gpus-per-node"]


CLASSIFIER = f'shift 2; exec "{sys.executable}" -m experiments.classifier "$@"'
TINY = ("--steps=6", "--features=4", "--batch_size=8", "--log_every=2", "--eval_every=6")


@pytest.mark.slow
def test_slurm_trains_with_two_processes(slurm, tmp_path):
    log = slurm(CLASSIFIER)
    workdir = tmp_path / "run"
    result = subprocess.run(
        [SLURM, *TINY, f"--workdir={workdir}"], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "train"] == [2, 4, 6]
    assert result.stdout.count("test: loss") == 1  # the first process speaks
    assert "scontrol" not in log.read_text()


@pytest.mark.slow
def test_slurm_training_that_is_stopped_goes_on(slurm, tmp_path):
    """Only one of the two processes hears the signal; both save."""
    log = slurm(f'echo "pid $SLURM_PROCID $$" >> "$LOG"; {CLASSIFIER}')
    workdir = tmp_path / "run"
    command = [SLURM, *TINY, "--steps=100000", "--eval_every=100000", f"--workdir={workdir}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as job:
        assert any("step 4/" in line for line in job.stdout)
        pids = dict(re.findall(r"pid (\d) (\d+)", log.read_text()))
        os.kill(int(pids["1"]), signal.SIGTERM)
        job.communicate(timeout=120)
    assert job.returncode == PREEMPTED
    assert f"scontrol requeue {os.getpid()}" in log.read_text()
    assert any((workdir / "checkpoints").iterdir())


def test_tpu_script_asks_waits_installs_runs_and_deletes(fake, monkeypatch):
    """The state is asked for until the slice is there."""
    body = """
printf '%s\\n' "${*//$'\\n'/ }" >> "$LOG"
if [[ "$*" == *describe* ]]; then
  [[ $(grep -c describe "$LOG") -gt 1 ]] && echo ACTIVE || echo WAITING_FOR_RESOURCES
fi
"""
    log = fake(gcloud=body, sleep="true", git='echo "git $*" >> "$LOG"')
    for name, value in (("TPU", "one"), ("ZONE", "here"), ("SHARE", "host:/runs")):
        monkeypatch.setenv(name, value)
    for arguments in (["create"], ["run", "--seed=1", "--workdir=/runs/a b"], ["delete"]):
        subprocess.run([TPU, *arguments], check=True, capture_output=True, cwd=ROOT)
    create, first, second, archive, copy, install, run, delete = log.read_text().splitlines()
    assert create.startswith("compute tpus queued-resources create one --zone=here --node-id=one")
    assert create.endswith("--spot")
    assert first == second and "describe one" in first
    assert archive.startswith("git archive --output=/") and archive.endswith("rnnlab.tar.gz HEAD")
    assert copy.startswith("compute tpus tpu-vm scp") and copy.endswith("--worker=all")
    assert "mount host:/runs /runs" in install and "'.[tpu,data]'" in install
    assert "--worker=all" in run
    assert run.endswith(r"--distributed --heartbeat_seconds=30 --seed=1 --workdir=/runs/a\ b ")
    assert delete == "compute tpus queued-resources delete one --zone=here --force --quiet"


def test_tpu_script_says_what_it_misses(monkeypatch):
    for name in ("TPU", "ZONE", "SHARE"):
        monkeypatch.delenv(name, raising=False)
    result = subprocess.run([TPU, "create"], capture_output=True, text=True)
    assert result.returncode != 0 and "TPU: name of the slice" in result.stderr
    for name in ("TPU", "ZONE", "SHARE"):
        monkeypatch.setenv(name, "x")
    result = subprocess.run([TPU, "start"], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("usage:")
