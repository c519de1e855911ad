"""R21: nothing in the tree can turn the content of a file into code that runs."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SOURCES = [
    path for top in ("rnnlab", "experiments", "benchmarks") for path in (ROOT / top).rglob("*.py")
]
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "yaml.load"),
    *("yaml.unsafe_load", "yaml.full_load", "torch.load", "subprocess.getoutput"),
    *("subprocess.getstatusoutput", "pandas.read_pickle"),
}
ARGUMENTS = {"allow_pickle": True, "shell": True}


def findings(source):
    """`(line, what)` of everything that could run what it reads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            yield from ((node.lineno, name) for name in names if name.split(".")[0] in MODULES)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            safe = called == "yaml.load" and "Safe" in ast.unparse(node)
            if called in CALLS and not safe:
                yield node.lineno, called
            for argument in node.keywords:
                value = getattr(argument.value, "value", None)
                if argument.arg in ARGUMENTS and value is not False:
                    yield node.lineno, f"{called}({argument.arg}=...)"


@pytest.mark.promise("R21")
def test_the_tree_has_no_way_to_run_what_it_reads():
    found = {
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in SOURCES
        for line, what in findings(path.read_text(encoding="utf-8"))
    }
    assert found == set()
    assert len(SOURCES) > 80


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from pickle import loads", "import marshal as m", "import shelve"),
        *("eval(x)", "exec(x)", "yaml.load(x)", "os.system(x)", "import torch; torch.load(x)"),
        *("np.load(x, allow_pickle=True)", "subprocess.run(x, shell=True)", "f(allow_pickle=y)"),
    ],
)
def test_each_way_would_be_found(source):
    assert list(findings(source))


@pytest.mark.parametrize(
    "source", ["json.loads(x)", "np.load(x, allow_pickle=False)", "re.compile(x)", "model.eval()"]
)
def test_what_is_harmless_is_not(source):
    assert not list(findings(source))
