import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from rnnlab.cli import main, trials
from rnnlab.cli.trials import directory_name

ROOT = pathlib.Path(__file__).parents[2]

TRAINER = '''
"""Writes what a run writes. The loss is (rate - 3)^2 + offset."""
import json, pathlib, signal, sys, time

flags = dict(flag.removeprefix("--").split("=", 1) for flag in sys.argv[1:])
run = pathlib.Path(flags["workdir"])
with open(run / "calls.txt", "a") as file:
    file.write(json.dumps(flags) + chr(10))


def write(**summary):
    (run / "run.json").write_text(json.dumps(summary))


def stop(number, frame):
    write(finished=False, stop_reason="SIGTERM")
    sys.exit(75)


signal.signal(signal.SIGTERM, stop)
write(finished=False, stop_reason=None)
if flags.get("sleep"):
    time.sleep(float(flags["sleep"]))
rate = float(flags["rate"])
if rate == 13:
    raise RuntimeError("an unlucky rate")
loss = float("nan") if rate == 99 else (rate - 3) ** 2 + float(flags.get("offset", 0))
print("trained")
write(finished=True, stop_reason="all steps done", metrics={"valid": {"loss": loss}})
'''


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """Runs `rnnlab sweep` of a module that only pretends to train; returns the exit code."""
    (tmp_path / "pretended.py").write_text(TRAINER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(*options, flags=()):
        return main(
            ["sweep", f"--workdir={tmp_path / 'sweep'}", *options, "--", "pretended", *flags]
        )

    run.workdir = tmp_path / "sweep"
    return run


def recorded_in(workdir):
    return [json.loads(line) for line in (workdir / "sweep.jsonl").read_text().splitlines()]


def recorded(sweep):
    return recorded_in(sweep.workdir)


def calls(sweep):
    """The flags of every process that was started."""
    files = sorted(sweep.workdir.glob("*/calls.txt"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_grid(sweep, capsys):
    code = sweep("--over", "rate=1,2.50", "--over", "cell=lstm,gru", flags=["--offset=1"])
    assert code == 0
    records = recorded(sweep)
    assert [record["score"] for record in records] == [5.0, 5.0, 1.25, 1.25]
    assert records[2]["values"] == {"rate": "2.50", "cell": "lstm"}  # as written
    for record, call in zip(sorted(records, key=lambda r: r["name"]), calls(sweep), strict=True):
        path = str(sweep.workdir / record["name"])
        assert call == {"offset": "1", **record["values"], "workdir": path}
    printed = capsys.readouterr().out
    best = next(record for record in records if record["score"] == 1.25)
    assert f"best: valid.loss 1.25 in {sweep.workdir / best['name']}\n" in printed
    table = [line.split() for line in printed.splitlines()]
    assert table.index(["2.50", "lstm", "1.2500"]) < table.index(["1", "lstm", "5.0000"])
    log = (sweep.workdir / best["name"] / "log.txt").read_text()
    assert log == "trained\n"


def test_picture(sweep):
    pytest.importorskip("matplotlib")
    assert sweep("--over", "rate=1,2") == 0
    assert (sweep.workdir / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_a_table_and_a_warning(sweep, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert sweep("--over", "rate=1,2") == 0
    captured = capsys.readouterr()
    assert "best: valid.loss" in captured.out
    assert "warning: no sweep.png, for drawing needs matplotlib" in captured.err


def test_a_range_is_searched_at_random(sweep):
    assert sweep("--over", "rate=0..6.0", "--trials=3", "--jobs=2") == 0
    first = {record["name"] for record in recorded(sweep)}
    assert len(first) == 3
    assert sweep("--over", "rate=0..6.0", "--trials=4") == 0  # finds the three
    assert len(calls(sweep)) == 4
    assert first < {record["name"] for record in recorded(sweep)}


def test_optuna(sweep):
    pytest.importorskip("optuna")
    options = ["--method=optuna", "--over", "rate=0..6.0", "--trials=3"]
    assert sweep(*options) == 0
    before = recorded(sweep)
    assert sweep(*options) == 0
    assert recorded(sweep) == before
    assert len(calls(sweep)) == 3


def test_a_trial_that_fails_is_a_row_and_stops_no_other(sweep, capsys):
    assert sweep("--over", "rate=1,13,99,3") == 1
    good, failed, odd, best = recorded(sweep)
    assert failed["score"] is None
    assert failed["problem"] == "exit code 1: RuntimeError: an unlucky rate"
    assert odd["problem"].startswith("expected a finite valid.loss in run.json, got nan")
    assert (good["score"], best["score"]) == (4.0, 0.0)
    assert "best: valid.loss 0 in" in capsys.readouterr().out


def test_the_same_command_again_runs_what_has_not_ended(sweep):
    assert sweep("--over", "rate=1,13,3") == 1
    (sweep.workdir / directory_name({"rate": "3"}) / "run.json").write_text("{")  # cut off
    assert sweep("--over", "rate=1,13,3") == 1
    started = [call["rate"] for call in calls(sweep)]
    assert sorted(started) == ["1", "13", "13", "3", "3"]
    assert len(recorded(sweep)) == 3


def test_more_values_may_be_asked_for_later(sweep):
    assert sweep("--over", "rate=1,2") == 0
    assert sweep("--over", "rate=1,2,3") == 0
    assert sorted(call["rate"] for call in calls(sweep)) == ["1", "2", "3"]


def test_another_search_in_the_same_directory_is_refused(sweep, capsys):
    assert sweep("--over", "rate=1", flags=["--offset=1"]) == 0
    capsys.readouterr()
    assert sweep("--over", "rate=1", flags=["--offset=2"]) == 2
    assert "pretended --offset=1, got one of pretended --offset=2" in capsys.readouterr().err
    assert len(calls(sweep)) == 1


def test_maximum_of_another_metric(sweep, capsys):
    assert sweep("--over", "rate=1,2", "--mode=max", "--metric=valid.accuracy") == 1
    assert recorded(sweep)[0]["problem"].endswith("got None; it has valid.loss")
    assert sweep("--over", "rate=1,2", "--mode=max") == 0
    assert "best: valid.loss 4 in" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--over=a=1"], "expected a module and its flags after --"),
        (["--over=a=1", "--", "--steps=3"], "expected a module and its flags after --"),
        (["--over=a=1", "--", "m", "--a=2"], "expected flags that the sweep does not set itself"),
        (
            ["--over=a=1", "--", "m", "--workdir=x"],
            "not set itself, got --workdir=x",
        ),
        (["--over=a=1..2", "--", "m"], "--trials: expected a number for --method=random"),
        (["--over=a=1..2", "--method=grid", "--", "m"], "expected lists of values"),
        (["--over=a=1", "--trials=0", "--", "m"], "expected a whole number of at least 1"),
        (["--over=a=1", "--jobs=x", "--", "m"], "expected a whole number of at least 1, got 'x'"),
        (["--", "m"], "required: --over"),
    ],
)
def test_mistakes_start_nothing(refused, tmp_path, arguments, message):
    workdir = tmp_path / "sweep"
    assert message in refused("sweep", f"--workdir={workdir}", *arguments)
    assert not workdir.exists()


@pytest.mark.parametrize(
    "value", ["..", "../../x", "/etc/passwd", "a/b", ".", "", "~", "x\0y", "\n", "ä" * 300, "a\\b"]
)
def test_no_value_becomes_a_path(tmp_path, value):
    name = directory_name({"rate": value})
    assert pathlib.PurePath(name).name == name
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    (tmp_path / name).mkdir()
    assert len(os.fsencode(name)) < 255


def test_names_tell_values_apart_that_look_the_same():
    assert directory_name({"a": "x/y"}) != directory_name({"a": "x:y"})
    assert directory_name({"a": "1", "b": "2"})[:7] == "a=1,b=2"
    digest = directory_name({"a": "1", "b": "2"}).split("-")[-1]
    assert directory_name({"b": "2", "a": "1"}).endswith(digest)


def test_a_hostile_value_reaches_the_module_as_it_is(sweep):
    assert sweep("--over", "rate=3", "--over", "x=../../up,$(touch y); ls") == 0
    assert sorted(call["x"] for call in calls(sweep)) == ["$(touch y); ls", "../../up"]
    assert {path.parent for path in sweep.workdir.rglob("run.json")} == {
        sweep.workdir / record["name"] for record in recorded(sweep)
    }


@pytest.fixture
def background(sweep):
    """A sweep of two ended trials and one that sleeps, in a process of its own."""
    command = [sys.executable, "-m", "rnnlab.cli", "sweep", f"--workdir={sweep.workdir}"]
    command += ["--jobs=2", "--over", "rate=1,2", "--over", "sleep=0,60", "--", "pretended"]
    environment = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{ROOT}"}
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command,
        stdout=pipe,
        stderr=pipe,
        text=True,
        env=environment,
        # a shell in the background hands down that it ignores SIGINT
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    asleep = [sweep.workdir / directory_name({"rate": r, "sleep": "60"}) for r in "12"]
    deadline = time.monotonic() + 60
    while not all((path / "run.json").is_file() for path in asleep):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    yield process, asleep
    process.kill()
    process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_sweep_ends_its_trials_and_reports(background, sweep, number):
    process, asleep = background
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("interrupted: the same command goes on with the rest")
    assert "best: valid.loss 1 in" in out  # of the two that had ended
    for path in asleep:  # told to stop, and given the time to say so
        assert json.loads((path / "run.json").read_text())["stop_reason"] == "SIGTERM"
    assert sum(record["score"] is not None for record in recorded(sweep)) == 2


def test_what_does_not_stop_when_told_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "GRACE", 0.2)
    (tmp_path / "deaf.py").write_text(
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('up').touch()\n"
        "time.sleep(60)\n"
    )
    monkeypatch.chdir(tmp_path)
    runner = trials.Runner(tmp_path, ["deaf"], "valid.loss", 1, note=print)

    def interrupt(seconds):
        if pathlib.Path("up").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(trials.time, "sleep", interrupt)
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        trials.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    with pytest.raises(KeyboardInterrupt):
        runner.evaluate([{"rate": "1"}])
    assert [process.returncode for process in started] == [-signal.SIGKILL]


@pytest.mark.slow
def test_sweeps_a_real_experiment(tmp_path, capsys):
    flags = (
        "--cell=gru --embedding_features=4 --seq_length=8 --batch_size=4 --steps=4 --eval_every=2"
        " --dataset=python_docs --eval_streams=4096 --length=5"
    )
    workdir = tmp_path / "sweep"
    search = f"sweep --workdir={workdir} --over features=4,8 -- experiments.language_model {flags}"
    assert main(search.split()) == 0
    records = recorded_in(workdir)
    assert [record["values"] for record in records] == [{"features": "4"}, {"features": "8"}]
    assert all(3 < record["score"] < 6 for record in records)  # nats, hardly trained
    capsys.readouterr()
    assert main(["runs", str(workdir), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["flags"]["features"] for row in rows] == ["4", "8"]
    runs = [str(workdir / row["name"]) for row in rows]
    assert main(["plot", *runs, f"--out={tmp_path / 'x.png'}"]) == 0
    assert main(["ckpt", "verify", runs[0]]) == 0
