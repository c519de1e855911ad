import importlib.util
import json
import math
import os
import subprocess
import sys

import pytest

from benchmarks import peer_arms, peer_cases, peer_report
from benchmarks.cases import Shape
from benchmarks.timing import Timing

JAX_PEERS = ["linen", "nnx", "haiku", "equinox", "keras"]
TINY = "--shapes=4:2:3 --blocks=2 --block_seconds=0"


def run(*arguments):
    command = f"{sys.executable} -m benchmarks.peers {TINY}"
    return subprocess.run(
        [*command.split(), *arguments], capture_output=True, text=True, check=False, env=os.environ
    )


@pytest.mark.slow
@pytest.mark.peers
def test_measures_every_arm_and_writes_json_tables_and_picture(tmp_path):
    for library in ("haiku", "equinox", "keras", "torch"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    path = tmp_path / "new" / "out.json"
    cells = "gru,elman,zoneout_lstm"
    result = run(f"--cells={cells}", "--strategies=scan,deferred,auto,foo", f"--out={path}")
    assert result.returncode == 0, result.stderr
    assert "foo, left out: not among" in result.stdout
    assert "equinox of elman, left out: it has none" in result.stdout
    rows = json.loads(path.read_text())["rows"]
    arms = {(row["cell"], row["mode"]): list(row["arms"]) for row in rows}
    no_equinox = [name for name in JAX_PEERS if name != "equinox"]
    expected = {}
    for mode in ("forward", "backward"):
        ours = ["scan", "deferred", "auto"]
        expected["gru", mode] = [*ours, *JAX_PEERS, "torch"]
        expected["elman", mode] = [*ours, *no_equinox, "torch"]
        expected["zoneout_lstm", mode] = [*ours, "torch"]
    expected["gru", "step"] = ["step", *JAX_PEERS, "torch"]
    expected["elman", "step"] = ["step", *no_equinox, "torch"]
    assert arms == expected
    for row in rows:
        for name, arm in row["arms"].items():
            assert arm["deviation"] <= 1e-5, (row, name)
            assert arm["seconds"] > 0
            assert (name == "torch") == ("compile_seconds" not in arm)
        rivals = {"jax", "torch"} if row["cell"] in ("gru", "elman") else {"torch"}
        assert all(set(ratios) == rivals for ratios in row["times_as_fast"].values())
    tables = path.with_suffix(".md").read_text()
    assert "## gru, forward and backward" in tables
    assert f"--cells={cells}" in tables
    assert path.with_suffix(".png").stat().st_size > 10_000


def case(name):
    cell = peer_cases.CELLS[name](4)
    params = peer_cases.draw_params(cell, 4)
    data = peer_cases.draw_data(cell, params, Shape(4, 2, 3))
    return params, data, peer_cases.reference(cell, params, data, "backward")


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("peer", JAX_PEERS)
def test_an_lstm_of_another_library_has_our_gradients(peer, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")  # read when keras is imported
    pytest.importorskip(peer if peer in ("haiku", "equinox", "keras") else "flax")
    params, data, expected = case("lstm")
    contender = peer_arms.JAX_PEERS[peer]("lstm", 4)
    weights = contender.convert(params)
    arm = peer_cases.jax_arm(contender, weights, params, data, "backward")
    assert peer_cases.deviation(arm.result, expected, "backward") <= 1e-6


@pytest.mark.slow
@pytest.mark.peers
@pytest.mark.parametrize("name", peer_cases.CELLS)
def test_torch_has_our_gradients(name):
    pytest.importorskip("torch")
    from benchmarks import peer_torch

    params, data, expected = case(name)
    arm = peer_torch.arm(peer_torch.model(name, 4, params), params, data, "backward")
    assert peer_cases.deviation(arm.result, expected, "backward") <= 5e-6


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--cells=foo", "expected names among lstm, gru"),
        ("--peers=mxnet", "expected names among linen"),
        ("--modes=sideways", "expected names among forward"),
        ("--shapes=8:2", "expected H:B:T"),
        ("--shapes=8:2:0", "expected H:B:T"),
    ],
)
def test_bad_flags_are_refused(flag, complaint):
    result = run(flag)
    assert result.returncode != 0
    assert complaint in result.stderr


TIMES = {
    "auto": Timing((1.0, 2.0, 1.0)),
    "linen": Timing((3.0, 3.0, 3.0)),
    "keras": Timing((2.0, 2.0, 2.5)),
    "torch": Timing((0.5, 1.0, 0.4)),
}


def test_speedups_are_over_the_fastest_jax_library_and_over_torch():
    result = peer_report.speedups(TIMES, ["linen", "keras", "torch"])
    assert result["fastest_jax_peer"] == "keras"
    assert result["times_as_fast"] == {"auto": {"jax": (2.0, 1.0, 2.5), "torch": (0.5, 0.4, 0.5)}}


def test_speedups_over_nobody():
    result = peer_report.speedups({"auto": TIMES["auto"]}, ["linen", "torch"])
    assert result == {"fastest_jax_peer": None, "times_as_fast": {"auto": {}}}


def test_overall_is_the_geometric_mean_and_the_least():
    rows = [{"times_as_fast": {"auto": {"jax": (ratio, 0.1, 9.0)}}} for ratio in (0.5, 2.0, 8.0)]
    mean, least = peer_report.overall(rows, "auto", "jax")
    assert math.isclose(mean, 2.0)
    assert least == 0.5
    assert peer_report.overall(rows, "auto", "torch") is None
    assert peer_report.overall(rows, "fused", "jax") is None


def test_at_peak_is_what_the_rivals_shares_leave():
    shares = ({"linen": 0.5, "torch": 0.25}, {"linen": 0.125})
    rows = [
        {
            "fastest_jax_peer": "linen",
            "arms": {name: {"roofline_share": share} for name, share in row.items()},
        }
        for row in shares
    ]
    mean, least = peer_report.at_peak(rows, "jax")
    assert math.isclose(mean, 4.0)
    assert least == 2.0
    assert peer_report.at_peak(rows, "torch") == (4.0, 4.0)
    assert peer_report.at_peak([{**rows[0], "fastest_jax_peer": None}], "jax") is None
