"""R16: a run goes on with its own flags and data; which may change is a list, the rest is refused.

Every flag of every experiment has its line here: a new one without is a failing test.
"""

import pathlib

import pytest

from experiments import classifier, common, forecast, forecast_flags, language_model
from rnnlab.data.text import Corpus
from rnnlab.training.checkpoint import Checkpoints
from rnnlab.training.resume import begin
from rnnlab.training.run import FREE_FLAGS, RunDirectory, identity
from tests.data.forecasting import small

pytestmark = pytest.mark.promise("R16")

SHARED = {
    **{"seed": 1, "batch_size": 4, "microbatches": 2, "learning_rate": 0.5, "warmup_steps": 1},
    **{"schedule": "constant", "decay_steps": 7, "optimizer": "sgd", "clip_norm": 2.0},
    **{"optimizer_options": '{"b1": 0.5}', "clip_value": 1.0, "weight_decay": 0.1},
    **{"average": "ema", "average_decay": 0.5, "average_patience": 2, "max_skips": 3},
    **{"patience": 2, "cell": "elman", "features": 5, "layers": 2, "strategy": "unrolled"},
    **{"dtype": "bfloat16", "dropout": 0.5, "cell_options": "{ }"},
}
"""Flag -> another value than the run's; it decides what is computed."""

OTHER = {
    language_model: {
        **SHARED,
        **{"dataset": "tiny_shakespeare", "seq_length": 5, "stateful": "false", "tied": "true"},
        **{"eval_streams": 3, "embedding_features": 6, "output_features": 5, "residual": "true"},
        **{"text": "other.txt", "layers": 3, "model": "mlp"},
        **{"num_params": 999, "length_deviation": 1.0, "cutoffs": "1", "softmax_chunk": 3},
        **{"input_dropout": 0.2, "layer_dropout": 0.2, "output_dropout": 0.2},
        **{"embedding_dropout": 0.2, "weight_drop": 0.2, "variational": "true"},
        **{"activation_penalty": 2.0, "temporal_penalty": 1.0},
    },
    classifier: {**SHARED, "eval_batch_size": 32},
    forecast: {
        **SHARED,
        **{"dataset": "airline", "csv": "other.csv", "time_column": "opened"},
        **{"target": "visits", "covariates": "holiday", "series_column": "branch"},
        **{"valid_share": 0.3, "test_share": 0.3, "season": 5, "horizon": 3, "context": 6},
        **{"stride": 2, "balanced": "true", "model": "dlinear", "age": "false", "select": "mae"},
        **{"loss": "absolute", "revin": "true", "shared_channels": "true", "segment": 3},
        **{"patch": 2, "heads": 2, "width": 5, "teacher_forcing": "true"},
        **{"distribution": "gaussian", "window_scaling": "standard", "lags": "1,2"},
        **{"embedding": 2, "seasons": "7", "level_stride": 2, "input_width": 5},
    },
}
ONLY_ONE_VALUE = {language_model: set(), classifier: {"dataset"}, forecast: set()}
ASSETS = {
    language_model: {"tokenizer": "word", "vocabulary_size": 5, "min_count": 2},
    classifier: {},
    forecast: {"scaling": "mean"},
}
"""Flag -> another value; it also decides what is saved with the run."""
ELSEWHERE = {language_model: {"embeddings"}, classifier: set(), forecast: set()}
"""Flags that come with a file; tests/experiments has them."""

FREE = {
    **{"steps": 9, "log_every": 3, "eval_every": 3, "save_every": 3, "keep": 3, "data_dir": "."},
    **{"mesh": "data:1", "profile": "true", "tensorboard": "true"},
}
"""Flag -> another value; it may change, and nothing that is computed does."""

SAMPLING = {
    language_model: {
        **{"mode": "train", "prompt": "b", "length": 3, "samples": 2, "sample_seed": 1},
        **{"temperature": 0.5, "top_k": 2, "top_p": 0.5, "word": "b", "neighbours": 2},
        **{"dynamic_evaluation": "false", "by_position": "true"},
    },
    classifier: {},
    forecast: {
        **{"mode": "train", "folds": 2, "fold_step": 3, "samples": 7, "eval_batch_size": 3},
        **{"out": "next.csv"},
    },
}
NOT_ALONE = {
    language_model: {
        **{"context": 5, "heads": 2, "kernel_width": 2, "dynamic_rms": "false"},
        **{"dynamic_learning_rate": 0.5, "dynamic_decay": 0.5, "dynamic_length": 3},
    },
    classifier: {},
    forecast: {},
}
"""Flag -> another value, which acts on nothing in this run."""
TINY = {
    language_model: "--steps=2 --features=4 --batch_size=2 --seq_length=4 --embedding_features=4"
    " --length=2 --layers=2",
    classifier: "--steps=2 --features=4 --batch_size=2 --eval_batch_size=300 --strategy=scan",
    forecast: "--steps=2 --features=4 --batch_size=2 --strategy=scan --csv=shops.csv --target=sales"
    " --horizon=4 --context=8",
}
EXPERIMENTS = pytest.mark.parametrize("module", OTHER, ids=lambda module: module.__name__[12:])


class WentThrough(BaseException):
    """The checkpoint would have been read."""


def corpus(train="abcab" * 9):
    return lambda name, data_dir: Corpus(name, {"train": train, "valid": "abc" * 9})


@pytest.fixture(scope="module", autouse=True)
def small_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language_model, "load_corpus", corpus())
        patch.setattr(language_model, "read_text", lambda path: corpus()(path, None))
        patch.setattr(forecast_flags, "load_csv", lambda *args, **options: small())
        patch.setattr(classifier, "SPLITS", {"train": 20, "valid": 20, "test": 20})
        yield


@pytest.fixture(scope="module")
def runs(small_data, tmp_path_factory):
    """Module -> the flags of a run of it that has ended."""
    flags = {}
    for module, tiny in TINY.items():
        workdir = tmp_path_factory.mktemp("run")
        flags[module] = [f"--workdir={workdir}", *tiny.split()]
        module.main(["program", *flags[module]])
    return flags


@pytest.fixture
def resume(runs, monkeypatch):
    """Starts an experiment again with other flags, as far as the checkpoint's arrays."""

    def only_begin(task, config):
        run = RunDirectory(config.workdir)
        ours = identity(config.flags, config.data, task.assets)
        with Checkpoints(run.checkpoints, read_only=True) as checkpoints:
            begin(((), ()), checkpoints, run, config, ours, print)

    def stop(*args):
        raise WentThrough

    monkeypatch.setattr(Checkpoints, "restore", stop)
    for module in OTHER:
        monkeypatch.setattr(module, "fit", only_begin)
    return lambda module, *flags: module.main(["program", *runs[module], *flags])


@EXPERIMENTS
def test_every_flag_has_a_line(module):
    sampling = set(getattr(module, "SAMPLING", ()))
    known = OTHER[module].keys() | FREE.keys() | ONLY_ONE_VALUE[module] | common.UNRECORDED
    known |= ASSETS[module].keys() | ELSEWHERE[module] | NOT_ALONE[module].keys()
    assert set(module.FLAGS) == known | sampling | {"workdir"}
    assert FREE.keys() | {"workdir"} == FREE_FLAGS
    assert sampling - NOT_ALONE[module].keys() == SAMPLING[module].keys()
    for name in ONLY_ONE_VALUE[module]:
        assert len(module.FLAGS[name].parser.enum_values) == 1


CHANGES = [(module, *change) for module, flags in OTHER.items() for change in flags.items()]


@pytest.mark.parametrize(
    ("module", "name", "value"), CHANGES, ids=[f"{m.__name__[12:]}-{n}" for m, n, _ in CHANGES]
)
def test_another_value_is_refused_with_both(resume, module, name, value):
    with pytest.raises(ValueError, match="cannot go on with this run") as error:
        resume(module, f"--{name}={value}")
    saved = RunDirectory(module.FLAGS.workdir).read_flags().get(name, "(unset)")
    assert f"--{name}: {saved} there, {value} here" in str(error.value)
    assert str(error.value).count(" there, ") == 1
    assert "Give the flags of" in str(error.value)


@pytest.mark.parametrize("name", NOT_ALONE[language_model])
def test_a_flag_that_acts_on_nothing_is_refused(resume, name):
    with pytest.raises(SystemExit, match=f"--{name}: expected --"):
        resume(language_model, f"--{name}={NOT_ALONE[language_model][name]}")


@pytest.mark.parametrize("name", ASSETS[language_model])
def test_another_tokenizer_is_refused_with_both(resume, name):
    """Some choose words only, so they come with `--tokenizer=word`."""
    value = ASSETS[language_model][name]
    words = [] if name == "tokenizer" else ["--tokenizer=word"]
    with pytest.raises(ValueError, match=r"asset vocabulary\.json: [0-9a-f]{64} there") as error:
        resume(language_model, *words, f"--{name}={value}")
    saved = RunDirectory(language_model.FLAGS.workdir).read_flags()[name]
    assert f"--{name}: {saved} there, {value} here" in str(error.value)


def test_another_scaling_is_refused_with_both(resume):
    with pytest.raises(ValueError, match=r"asset scales\.json: [0-9a-f]{64} there") as error:
        resume(forecast, "--scaling=mean")
    assert "--scaling: auto there, mean here" in str(error.value)


@EXPERIMENTS
@pytest.mark.parametrize("name", FREE)
def test_what_changes_no_result_may_change(resume, module, name):
    with pytest.raises(WentThrough):
        resume(module, f"--{name}={FREE[name]}")


LOOKS = [(module, *look) for module, flags in SAMPLING.items() for look in flags.items()]


@pytest.mark.parametrize(
    ("module", "name", "value"), LOOKS, ids=[f"{m.__name__[12:]}-{n}" for m, n, _ in LOOKS]
)
def test_how_a_run_is_looked_at_may_change(resume, module, name, value):
    with pytest.raises(WentThrough):
        resume(module, f"--{name}={value}")


def test_several_differences_are_all_named(resume):
    with pytest.raises(ValueError, match=r"--cell: lstm there, gru here; --seed: 0 there, 3 here"):
        resume(language_model, "--seed=3", "--cell=gru")


def test_other_text_is_refused(resume, monkeypatch):
    monkeypatch.setattr(language_model, "load_corpus", corpus("abcac" * 9))
    with pytest.raises(ValueError, match=r"data train: [0-9a-f]{64} there, [0-9a-f]{64} here"):
        resume(language_model)
    monkeypatch.setattr(language_model, "load_corpus", corpus("abcad" * 9))
    with pytest.raises(ValueError, match=r"asset vocabulary\.json: [0-9a-f]{64} there"):
        resume(language_model)


def test_other_series_are_refused(resume, monkeypatch):
    monkeypatch.setattr(classifier, "SPLITS", {"train": 21, "valid": 20, "test": 20})
    with pytest.raises(ValueError, match=r"data train: .* asset normaliser\.json: "):
        resume(classifier)


@EXPERIMENTS
def test_nothing_of_the_run_has_changed_after_a_refusal(runs, module):
    """All the way, with nothing left out."""
    path = pathlib.Path(runs[module][0].removeprefix("--workdir="))

    def files():
        return {file: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}

    before = files()
    with pytest.raises(ValueError, match="--features: 4 there, 5 here"):
        module.main(["program", *runs[module], "--features=5"])
    after = files()
    assert {file.name for file in before if before[file] != after[file]} <= {"lock"}
    assert before.keys() == after.keys()
