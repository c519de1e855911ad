"""Small run directories, made by hand."""

import json

import pytest

METRICS = [
    {"step": 10, "split": "train", "loss": 3.0},
    {"step": 10, "split": "valid", "loss": 2.5, "accuracy": 0.5},
    {"step": 20, "split": "train", "loss": 2.0},
    {"step": 20, "split": "valid", "loss": 2.75, "accuracy": 0.4},
]
TIMING = [
    {"step": 10, "seconds_per_step": 0.5},
    {"step": 10, "split": "valid", "seconds": 2.0},
    {"step": 20, "seconds_per_step": 0.25},
]
ENDED = {
    "finished": True,
    "stop_reason": "all steps done",
    "step": 20,
    "best_step": 10,
    "parameters": 1234,
    "metrics": {"valid": {"loss": 2.5, "accuracy": 0.5}, "test": {"loss": 2.25}},
}
RUNNING = {"finished": False, "stop_reason": None, "parameters": 1234}


def as_lines(records):
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def make_run(tmp_path):
    """Writes a run directory: `summary` for `run.json`, and what else differs."""

    def make(name, summary=ENDED, metrics=METRICS, timing=TIMING, flags="--features=8\n"):
        path = tmp_path / "runs" / name
        path.mkdir(parents=True)
        (path / "run.json").write_text(json.dumps(summary))
        (path / "metrics.jsonl").write_text(as_lines(metrics))
        (path / "timing.jsonl").write_text(as_lines(timing))
        (path / "flags.txt").write_text(flags)
        return path

    return make


@pytest.fixture
def refused(capsys):
    """Runs a command that is to fail with exit code 2 and one line, and returns the line."""
    from rnnlab.cli import main

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            code = stopped.code
        captured = capsys.readouterr()
        assert code == 2
        assert captured.err.startswith("error: ")
        assert captured.err.count("\n") == 1
        return captured.err

    return run
