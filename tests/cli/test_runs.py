import json
import os

import pytest

from rnnlab.cli import main
from tests.cli.conftest import ENDED, METRICS, RUNNING


def rows(capsys, *arguments):
    assert main(["runs", *map(str, arguments), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_run_that_has_ended(make_run, capsys):
    path = make_run("one")
    (row,) = rows(capsys, path.parent)
    assert row["name"] == "one"
    assert (row["step"], row["best_step"], row["parameters"]) == (20, 10, 1234)
    assert row["metrics"] == ENDED["metrics"]
    assert row["seconds"] == pytest.approx(10 * 0.5 + 2.0 + 10 * 0.25)
    assert row["stop_reason"] == "all steps done"
    assert row["flags"] == {"features": "8"}


def test_a_run_that_is_going_shows_how_far_it_is(make_run, capsys):
    path = make_run("going", RUNNING, METRICS[:3])
    with open(path / "metrics.jsonl", "a") as file:
        file.write('{"step": 30, "spl')  # being written
    (row,) = rows(capsys, path.parent)
    assert row["step"] == 20
    assert row["metrics"]["valid"]["loss"] == 2.5
    assert not row["finished"]
    assert main(["runs", str(path.parent)]) == 0
    assert "not ended, last written" in capsys.readouterr().out


@pytest.mark.parametrize(
    "content",
    ["", "{", "[1]", "null", '{"metrics": 3}', "[" * 100_000, '{"metrics": {"valid": 1}}'],
)
def test_a_broken_summary_costs_its_own_row_at_most(make_run, capsys, content):
    make_run("good")
    path = make_run("broken")
    (path / "run.json").write_text(content)
    broken, good = rows(capsys, path.parent)
    assert main(["runs", str(path.parent)]) == 0
    assert "\n good " in capsys.readouterr().out
    assert (good["name"], good["problem"]) == ("good", None)
    assert broken["name"] == "broken"


def test_a_broken_line_of_metrics_is_named(make_run, capsys):
    path = make_run("one")
    (path / "metrics.jsonl").write_text('{"step": 10, "split": "train"}\nnonsense\n{"step": 20}\n')
    (row,) = rows(capsys, path.parent)
    assert "metrics.jsonl:2: expected a line of JSON" in row["problem"]


def test_finds_runs_at_any_depth_and_none_inside_a_run(make_run, capsys):
    for name in ("b", "sweep/a", "b/checkpoints/inner"):
        path = make_run(name)
    found = [row["name"] for row in rows(capsys, path.parents[2])]
    assert found == ["b", os.path.join("sweep", "a")]


def test_links_are_not_followed(make_run, capsys, tmp_path):
    path = make_run("one")
    (path.parent / "loop").symlink_to(path.parent, target_is_directory=True)
    assert len(rows(capsys, path.parent)) == 1


def scored(make_run, **losses):
    for name, loss in losses.items():
        metrics = {} if loss is None else {"valid": {"loss": loss}}
        path = make_run(name, {**ENDED, "metrics": metrics}, [], flags=f"--learning_rate={loss}\n")
    return path.parent


def test_sorts_by_a_metric_with_what_has_none_last(make_run, capsys):
    directory = scored(make_run, a=10.0, b=None, c=9.0)
    assert [r["name"] for r in rows(capsys, directory, "--sort=valid.loss")] == ["c", "a", "b"]
    in_reverse = rows(capsys, directory, "--sort=valid.loss", "--reverse")
    assert [r["name"] for r in in_reverse] == ["a", "c", "b"]


def test_sorts_flags_as_numbers(make_run, capsys):
    directory = scored(make_run, a=10.0, b=9.0)
    assert [r["name"] for r in rows(capsys, directory, "--sort=flags.learning_rate")] == ["b", "a"]


def test_refuses_to_sort_by_what_no_run_has(make_run, refused):
    path = make_run("one")
    message = refused("runs", path.parent, "--sort=valid.bleu")
    assert "--sort: expected something that a run has" in message
    assert "got valid.bleu" in message


def test_table_shows_scores_and_asked_columns(make_run, capsys):
    path = make_run("one")
    assert main(["runs", str(path.parent), "--show=valid.accuracy,flags.features"]) == 0
    header, _, line = (row for row in capsys.readouterr().out.splitlines() if row.strip())
    columns = ["name", "step", "best_step", "valid.loss", "test.loss", "parameters"]
    assert header.split() == [*columns, "valid.accuracy", "flags.features", "time", "state"]
    values = ["one", "20", "10", "2.5000", "2.2500", "1,234", "0.5000", "8"]
    assert line.split() == [*values, "9.5", "s", "all", "steps", "done"]


def test_control_characters_do_not_reach_the_terminal(make_run, capsys):
    path = make_run("one", {**ENDED, "stop_reason": "\x1b[2Jgone\nnext"})
    assert main(["runs", str(path.parent)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "?[2Jgone next" in printed


def test_no_runs(tmp_path, capsys):
    assert main(["runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs under {tmp_path}\n"
