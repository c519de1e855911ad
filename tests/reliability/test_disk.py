"""R6, R7: a full disk costs no checkpoint that was there, and a log line is not worth a run."""

import errno
import pathlib
import shutil
import subprocess
import warnings

import jax.numpy as jnp
import pytest

from rnnlab.training import fit
from rnnlab.training.checkpoint import Checkpoints

MEGABYTE = 2**20


@pytest.fixture
def small_disk(tmp_path):
    """A disk of four megabytes."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={4 * MEGABYTE}", "tmpfs", str(mount)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk of its own takes the right to mount one")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def fill(directory, leave):
    """Takes all room but `leave` bytes."""
    free = shutil.disk_usage(directory).free
    (directory / "filler").write_bytes(b"\0" * max(free - leave, 0))


def room(twentieths):
    marks = [pytest.mark.full] * (twentieths != 10)
    return pytest.param(twentieths * MEGABYTE // 20, marks=marks, id=f"{twentieths}")


@pytest.mark.promise("R6")
@pytest.mark.parametrize("leave", [room(twentieths) for twentieths in range(1, 21)])
def test_no_room_for_a_checkpoint_is_exit_5_and_the_older_one_restores(
    make_task, make_config, small_disk, capsys, leave
):
    def batches(first_step):
        for step, batch in enumerate(make_task().train_batches(first_step), first_step):
            if step == 8:  # after the checkpoint of step 7
                fill(small_disk, leave)
            yield batch

    config = make_config(str(small_disk / "run"))
    with pytest.raises(SystemExit) as exit_:
        fit(make_task(train_batches=batches), config)
    assert exit_.value.code == 5
    printed = capsys.readouterr().out
    assert "bytes free for a checkpoint, got" in printed and "Make room" in printed
    (small_disk / "filler").unlink()
    with Checkpoints(pathlib.Path(config.workdir, "checkpoints"), read_only=True) as checkpoints:
        assert checkpoints.steps() == [5, 7] and checkpoints.verify(7) == []
    result = fit(make_task(), config)
    assert result.step == 20
    expected = fit(make_task(), make_config("elsewhere"))
    assert result.metrics == expected.metrics


@pytest.mark.promise("R6")
def test_a_save_that_fails_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"a": jnp.ones(3)}, (), {}, best=None)

        def fail(step, **options):
            (tmp_path / f"{step}.orbax-checkpoint-tmp").mkdir()
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(checkpoints._manager, "save", fail)
        with pytest.raises(OSError, match="No space left"):
            checkpoints.save(2, {"a": jnp.ones(3)}, (), {}, best=None)
        assert [path.name for path in tmp_path.iterdir()] == ["1"]


@pytest.mark.promise("R7")
def test_no_room_for_metrics_is_one_warning_a_file(make_task, make_config, small_disk):
    """The checkpoints lie elsewhere, so training goes on to its end."""
    config = make_config()
    elsewhere = pathlib.Path(config.workdir)
    elsewhere.mkdir()
    for name in ("metrics.jsonl", "timing.jsonl"):
        (small_disk / name).touch()
        (elsewhere / name).symlink_to(small_disk / name)
    fill(small_disk, 0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert fit(make_task(), config).step == 20
    messages = [str(warning.message) for warning in caught]
    assert sum("metrics.jsonl is not complete" in message for message in messages) == 1
    assert sum("timing.jsonl is not complete" in message for message in messages) == 1
