"""Checkpoints that somebody made to do harm: each function changes a step of a run that was good.

Their maker knows everything, so what has a digest gets the right one.
"""

import json
import math
import os
import pickle
import shutil

import numpy as np
import tensorstore

from rnnlab.training.checkpoint import _text_digest

JSON_FILES = ("meta/metadata", "digests/metadata", "params/_METADATA", "_CHECKPOINT_METADATA")


class Payload:
    """What makes a directory when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def replace(path, link_to):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(link_to)


def forge(step, change):
    """Another `meta`, as a run would have saved it."""
    meta = json.loads((step / "meta/metadata").read_text())
    digests = json.loads((step / "digests/metadata").read_text())
    meta = change(meta)
    digests["meta"] = _text_digest(meta)
    (step / "meta/metadata").write_text(json.dumps(meta))
    (step / "digests/metadata").write_text(json.dumps(digests))


def array(step, shape, chunks):
    """Declares the first array of the parameters anew, and writes the few numbers it had."""
    leaves = json.loads((step / "params/_METADATA").read_text())["tree_metadata"]
    name = ".".join(part["key"] for part in next(iter(leaves.values()))["key_metadata"])
    store = {"driver": "ocdbt", "base": f"file://{step}/params/"}
    metadata = {"shape": shape, "chunks": chunks, "dtype": "<f4", "compressor": {"id": "zstd"}}
    tensorstore.open(
        {"driver": "zarr", "kvstore": store, "path": name, "metadata": metadata},
        create=True,
        delete_existing=True,
    ).result()[:7, :1] = np.ones((7, 1), np.float32)


def pickles(pattern):
    def attack(step, outside):
        for path in step.glob(pattern):
            if path.is_file():
                path.write_bytes(pickle.dumps(Payload(outside / "ran")))

    return attack


def link(name, target):
    return lambda step, outside: replace(step / name, target.format(outside=outside))


def beside(name):
    def attack(step, outside):
        (step.parent / name).symlink_to(outside)

    return attack


def text(name, content):
    return lambda step, outside: (step / name).write_text(content)


def pipe(step, outside):
    (step / "meta/metadata").unlink()
    os.mkfifo(step / "meta/metadata")


def large(step, outside):
    os.truncate(step / "meta/metadata", 2**35)  # of holes: it takes no disk


def names_that_lead_out(step, outside):
    path = step / "params/_METADATA"
    content = json.loads(path.read_text())
    (key, leaf), *_ = content["tree_metadata"].items()
    leaf["key_metadata"][-1]["key"] = f"../../../../{outside.name}/new"
    content["tree_metadata"] = {key.replace("'0'", f"'../{outside.name}/new'"): leaf}
    path.write_text(json.dumps(content | {"use_ocdbt": False}))


def handlers(step, outside):
    path = step / "_CHECKPOINT_METADATA"
    content = json.loads(path.read_text())
    content["item_handlers"] = dict.fromkeys(content["item_handlers"], "os.mkdir")
    path.write_text(json.dumps(content))


def progress(**fields):
    return lambda step, outside: forge(
        step, lambda meta: meta | {"progress": meta["progress"] | fields}
    )


def meta(**fields):
    return lambda step, outside: forge(step, lambda meta: meta | fields)


def odd_steps(step, outside):
    for name in ("-5", "0x14", "\u0663", "1e9", "9" * 30, "21 ", "..21"):
        (step.parent / name).mkdir()


DEEP = "[" * 200_000
ATTACKS = {
    "pickles as arrays": pickles("*/d/*"),
    "pickles as JSON": pickles("*/metadata"),
    "pickles as every file": pickles("**/*"),
    "a step that is a link": lambda step, outside: replace(step, outside / "good"),
    "an item that is a link": link("params", "{outside}/good/params"),
    "a file that is a link": link("meta/metadata", "{outside}/good/meta/metadata"),
    "a link to what has no end": link("meta/metadata", "/dev/zero"),
    "a link where orbax begins": link("_CHECKPOINT_METADATA", "/dev/zero"),
    "a link to a file of the system": link("digests/metadata", "/etc/passwd"),
    "half a checkpoint that is a link": beside("25.orbax-checkpoint-tmp-7"),
    "another step that is a link": beside("3"),
    "a newer step that is a link": beside("30"),
    "a pipe": pipe,
    "a file of gigabytes": large,
    "names that lead out": names_that_lead_out,
    "handlers": handlers,
    "a huge shape": lambda step, outside: array(step, [2**30, 2**20], [1024, 1024]),
    "a huge chunk": lambda step, outside: array(step, [7, 8], [2**14, 2**13]),
    "odd steps": odd_steps,
    **{f"deep {name}": text(name, DEEP) for name in JSON_FILES},
    **{f"a list as {name}": text(name, "[1]") for name in JSON_FILES[:3]},
    **{f"NaN as {name}": text(name, "NaN") for name in JSON_FILES[:2]},
    "best step that leads out": progress(best_step="../../../outside/good"),
    "best step that is a list": progress(best_step=[20]),
    "best step that is not there": progress(best_step=7777),
    "best step below zero": progress(best_step=-1),
    "size below zero": progress(metrics_size=-5),
    "size of a text": progress(metrics_size="5"),
    "size of everything": progress(metrics_size=2**70),
    "batches of infinity": progress(batches=math.inf),
    "batches of true": progress(batches=True),
    "metrics of texts": progress(best_metrics={"valid": {"loss": "low"}}),
    "metrics of lists": progress(best_metrics=[1]),
    "window of texts": progress(window={"loss": ["a", "b"]}),
    "a field too many": progress(more=1),
    "no progress": meta(progress=None),
    "no identity": meta(identity={}),
    "identity of lists": meta(identity={"flags": [], "data": [], "assets": []}),
    "identity of numbers": meta(identity={"flags": {"seed": 1}, "data": {}, "assets": {}}),
}
"""Name -> `(folder of the step, folder outside)`; what runs leaves `outside/ran`."""
