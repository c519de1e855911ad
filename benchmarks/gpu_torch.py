"""The arms that torch runs: cuDNN's LSTM and GRU, with the weights of rnnlab's."""

import importlib
import sys
from typing import Any

import numpy as np

from benchmarks.gpu_arms import Arm
from benchmarks.gpu_plan import Case, Data, NotMeasured

LAYERS = {"lstm": "LSTM", "gru": "GRU"}
STORED = {"tf32": "float32"}  # a dtype of torch, where its name is another


def load(dry: bool) -> Any:
    """The torch module.

    Args:
      dry: whether its CPU may stand in for a GPU.

    Raises:
      NotMeasured: there is no torch, or it sees no cuDNN.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise NotMeasured(f"torch: {error}") from error
    if not dry and not torch.cuda.is_available():
        raise NotMeasured(f"torch {torch.__version__} sees no CUDA device")
    if not dry and not torch.backends.cudnn.is_available():
        raise NotMeasured(f"torch {torch.__version__} has no cuDNN")
    return torch


def versions(torch: Any) -> dict[str, str]:
    """Those of torch and of what it runs on."""
    known = {"torch": torch.__version__, "CUDA of torch": torch.version.cuda}
    if torch.backends.cudnn.is_available():
        known["cuDNN of torch"] = torch.backends.cudnn.version()
    return {name: str(version) for name, version in known.items()}


def torch_arm(torch: Any, dtype: str, case: Case, data: Data, backward: bool) -> Arm:
    """A layer of torch, on its GPU if it has one.

    Args:
      torch: the module.
      dtype: "float16", "bfloat16", "float32", or "tf32" for float32 with TF32 allowed.
      case: what to compute.
      data: the numbers.
      backward: with gradients of parameters and inputs.
    """
    gpu = torch.cuda.is_available()
    options: dict[str, Any] = {
        "device": "cuda" if gpu else "cpu",
        "dtype": getattr(torch, STORED.get(dtype, dtype)),
    }
    if not gpu:
        torch.set_num_threads(1)  # more would wait for one another, and for those of jax
    net = _layer(torch, case, data, options).train(backward)
    xs, weights = (torch.tensor(a, **options) for a in data[1:])
    wanted = [xs.requires_grad_(backward), *net.parameters()]

    def run():
        torch.backends.cudnn.allow_tf32 = dtype == "tf32"  # the layer's own, not that of matmuls
        with torch.set_grad_enabled(backward):
            ys, _ = net(xs)
            result = torch.autograd.grad(ys, wanted, weights) if backward else ys
        if gpu:
            torch.cuda.synchronize()
        return result

    def compared(result):
        parts = [result[0], result[2].mT] if backward else [result]  # xs, W, U, ...
        return [np.asarray(part.detach().float().cpu()) for part in parts]

    return Arm(run, compared, _peak(torch, run) if gpu else {})


def release() -> None:
    """Gives back the memory that torch keeps for later, if it was loaded."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _layer(torch: Any, case: Case, data: Data, options: dict[str, Any]) -> Any:
    features, both = case.shape.features, case.variant == "both directions"
    depth = 1 if both else len(data.params)
    make = getattr(torch.nn, LAYERS[case.cell])
    net = make(features, features, depth, bidirectional=both, **options)
    names = ["l0", "l0_reverse"] if both else [f"l{layer}" for layer in range(depth)]
    arrays = {}
    for name, params in zip(names, data.params, strict=True):
        zeros = np.zeros_like(params.bias)
        if case.cell == "gru":  # of n there is one inside the reset product
            zeros[-features:] = params.recurrent_bias
        arrays[f"weight_ih_{name}"] = params.kernel.T
        arrays[f"weight_hh_{name}"] = params.recurrent_kernel.T
        arrays[f"bias_ih_{name}"], arrays[f"bias_hh_{name}"] = params.bias, zeros
    net.load_state_dict({name: torch.tensor(a.copy()) for name, a in arrays.items()})
    net.flatten_parameters()
    return net


def _peak(torch: Any, run: Any) -> dict[str, float]:
    """What a call allocates at its peak, its results and temporary memory."""
    run()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return {"bytes": torch.cuda.max_memory_allocated() - before}
