"""R3, R4, R5: a damaged checkpoint is seen, the one before it is used, and never a fresh start."""

import pathlib
import shutil

import jax
import numpy as np
import pytest

from rnnlab.training import fit
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.trainer import Trainer

DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "emptied": lambda path: path.write_bytes(b""),
    "deleted": lambda path: path.unlink(),
}


def files_of(config, step):
    folder = pathlib.Path(config.workdir, "checkpoints", str(step))
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path, position, bit):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def content_of(directory, trees):
    """Everything that a resumed run would read of step 20."""
    with Checkpoints(directory, read_only=True) as checkpoints:
        restored = checkpoints.restore(20, *trees)
        leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(restored)]
        return leaves, checkpoints.meta(20)


def flips(count):
    return pytest.param(count, marks=[pytest.mark.slow] + [pytest.mark.full] * (count > 100))


@pytest.mark.promise("R3")
@pytest.mark.parametrize("count", [flips(60), flips(1000)])
def test_no_flipped_bit_is_silent(make_task, make_config, tmp_path, count, counted):
    """Each is refused, or lies where nothing is read from."""
    config = make_config()
    fit(make_task(), config)
    directory = pathlib.Path(config.workdir, "checkpoints")
    trees = Trainer(make_task(), config).shapes()
    expected = content_of(directory, trees)
    sizes = [path.stat().st_size for path in files_of(config, 20)]
    generator, seen = np.random.default_rng(0), 0
    for _ in range(count):
        path = files_of(config, 20)[generator.choice(len(sizes), p=np.array(sizes) / sum(sizes))]
        position, bit = generator.integers(path.stat().st_size), generator.integers(8)
        flip(path, position, bit)
        try:
            content = content_of(directory, trees)
        except Exception:  # refused
            content, seen = expected, seen + 1
        assert content == expected, (path, position, bit)
        flip(path, position, bit)
    assert content_of(directory, trees) == expected
    assert seen > count // 4
    counted(count, count)


@pytest.mark.slow
@pytest.mark.promise("R4")
@pytest.mark.parametrize(
    "damage",
    ["truncated", *(pytest.param(name, marks=pytest.mark.full) for name in ("emptied", "deleted"))],
)
def test_a_damaged_file_means_the_checkpoint_before_it(
    make_task, make_config, saved_bytes, damage, capsys
):
    """Every file of the newest checkpoint in turn; the run ends as if nothing had been."""
    config = make_config(steps=15)
    fit(make_task(), config)
    expected = saved_bytes(make_task(), config)
    metrics = pathlib.Path(config.workdir, "metrics.jsonl").read_bytes()
    whole = pathlib.Path(config.workdir).with_name("whole")
    shutil.copytree(config.workdir, whole)
    used_before = 0
    for number in range(len(files_of(config, 15))):
        shutil.rmtree(config.workdir)
        shutil.copytree(whole, config.workdir)
        DAMAGES[damage](files_of(config, 15)[number])
        capsys.readouterr()
        fit(make_task(), config)
        used_before += "checkpoint of step 15 is not usable" in capsys.readouterr().out
        assert saved_bytes(make_task(), config) == expected
        assert pathlib.Path(config.workdir, "metrics.jsonl").read_bytes() == metrics
    assert used_before > 3


@pytest.mark.promise("R5")
def test_no_usable_checkpoint_is_exit_4_and_loses_nothing(make_task, make_config, capsys):
    config = make_config(steps=15)
    fit(make_task(), config)
    metrics = pathlib.Path(config.workdir, "metrics.jsonl").read_bytes()
    kept = sorted(path.name for path in pathlib.Path(config.workdir, "checkpoints").iterdir())
    for step in kept:
        for path in files_of(config, step):
            path.write_bytes(b"")
    with pytest.raises(SystemExit) as exit_:
        fit(make_task(), config)
    assert exit_.value.code == 4
    printed = capsys.readouterr().out
    assert "none of the checkpoints is usable" in printed
    assert all(f"step {step}: " in printed for step in kept)
    assert pathlib.Path(config.workdir, "metrics.jsonl").read_bytes() == metrics
    assert sorted(p.name for p in pathlib.Path(config.workdir, "checkpoints").iterdir()) == kept


@pytest.mark.promise("R4")
def test_a_damaged_checkpoint_is_set_aside_and_its_step_saved_again(make_task, make_config):
    config = make_config(steps=15)
    fit(make_task(), config)
    for path in files_of(config, 15):
        path.write_bytes(b"")
    fit(make_task(), config)
    assert [path.name for path in pathlib.Path(config.workdir, "bad_checkpoints").iterdir()] == [
        "15"
    ]
    with Checkpoints(pathlib.Path(config.workdir, "checkpoints")) as checkpoints:
        assert checkpoints.verify(15) == []
