import pathlib
import sys

import jax
import pytest

from rnnlab import cache
from rnnlab.training import compilation, fit


@pytest.mark.slow
def test_profile_writes_a_trace(make_task, make_config):
    config = make_config(profile=True, steps=12)
    fit(make_task(), config)
    (trace,) = pathlib.Path(config.workdir, "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000


def test_tensorboard_gets_what_is_logged(make_task, make_config):
    reader = pytest.importorskip("tensorboardX.proto.event_pb2", reason="an optional extra")
    config = make_config(tensorboard=True, steps=8)
    fit(make_task(), config)
    (events,) = pathlib.Path(config.workdir, "tensorboard").iterdir()
    content, tags = events.read_bytes(), set()
    while content:  # length, its checksum, the event, its checksum
        length = int.from_bytes(content[:8], "little")
        event = reader.Event.FromString(content[12 : 12 + length])
        tags |= {(value.tag, event.step) for value in event.summary.value}
        content = content[16 + length :]
    assert {("train/loss", 4), ("train/loss", 8), ("valid/loss", 7), ("test/loss", 8)} <= tags
    assert ("train/learning_rate", 4) in tags


def test_tensorboard_names_the_extra_it_needs(make_task, make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnlab\[tensorboard\]'"):
        fit(make_task(), make_config(tensorboard=True))


def test_compiled_programs_are_kept_for_the_user(no_cache_chosen, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = compilation.enable_compilation_cache()
    assert folder.parent == cache.user_cache() / "compiled" == tmp_path / "rnnlab" / "compiled"
    assert folder.stat().st_mode & 0o077 == 0  # nobody else may put a program there
    assert jax.config.jax_compilation_cache_dir == str(folder)


def test_another_processor_has_another_folder(no_cache_chosen, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = compilation.enable_compilation_cache()
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setattr(compilation, "_processor", lambda: "another")
    assert compilation.enable_compilation_cache() != first


def test_a_cache_that_was_chosen_stays(no_cache_chosen, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    assert compilation.enable_compilation_cache() == tmp_path


@pytest.mark.parametrize("home", ["/proc/nowhere", "file"])
def test_a_cache_that_cannot_be_written_is_one_warning(
    no_cache_chosen, tmp_path, monkeypatch, home
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / home))
    with pytest.warns(UserWarning, match="compiled programs are not kept"):
        assert compilation.enable_compilation_cache() is None
    assert not jax.config.jax_compilation_cache_dir
