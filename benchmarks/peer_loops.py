"""Cells that torch has no kernel for, written as a torch user would: a step, looped in Python.

`LOOPS` gives for the name of a cell its module and the function that lays our parameters out as its
state_dict.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class Loop(nn.Module):
    """A cell and its loop over time."""

    def __init__(self, features: int):
        super().__init__()
        self.features = features

    def initial_carry(self, x: torch.Tensor) -> Any:
        """Zeros, for a batch like `x`."""
        return x.new_zeros(x.shape[0], self.features)

    step: Callable[..., tuple[Any, torch.Tensor]]  # (carry, x, *extra) -> (carry, y)

    def forward(self, xs: torch.Tensor, *extra: torch.Tensor) -> tuple[torch.Tensor, Any]:
        """The outputs of all steps, and the last carry."""
        carry, ys = self.initial_carry(xs[0]), []
        for inputs in zip(xs, *extra, strict=True):
            carry, y = self.step(carry, *inputs)
            ys.append(y)
        return torch.stack(ys), carry


class LSTMLoop(Loop):
    """What loops around an LSTM share: a carry (h, c), as torch has it."""

    def initial_carry(self, x: torch.Tensor) -> Any:
        zeros = super().initial_carry(x)
        return zeros, zeros


class LayerNormLSTM(LSTMLoop):
    """LSTM that normalises x W, h U and c."""

    def __init__(self, features: int):
        super().__init__(features)
        self.input = nn.Linear(features, 4 * features, bias=False)
        self.hidden = nn.Linear(features, 4 * features, bias=False)
        self.input_norm = nn.LayerNorm(4 * features, bias=False)
        self.hidden_norm = nn.LayerNorm(4 * features)  # its bias is that of the gates
        self.cell_norm = nn.LayerNorm(features)

    def step(self, carry: Any, x: torch.Tensor) -> tuple[Any, torch.Tensor]:
        h, c = carry
        gates = self.input_norm(self.input(x)) + self.hidden_norm(self.hidden(h))
        i, f, g, o = gates.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(self.cell_norm(c))
        return (h, c), h


class ZoneoutLSTM(LSTMLoop):
    """torch's own LSTMCell, with parts of h and c kept."""

    def __init__(self, features: int):
        super().__init__(features)
        self.cell = nn.LSTMCell(features, features)

    def step(
        self, carry: Any, x: torch.Tensor, keep_c: torch.Tensor, keep_h: torch.Tensor
    ) -> tuple[Any, torch.Tensor]:
        h, c = self.cell(x, carry)
        h, c = torch.where(keep_h, carry[0], h), torch.where(keep_c, carry[1], c)
        return (h, c), h


class ResetBeforeGRU(Loop):
    """GRU whose reset gate acts on h before the matmul."""

    def __init__(self, features: int):
        super().__init__(features)
        self.input = nn.Linear(features, 3 * features)
        self.gates = nn.Linear(features, 2 * features, bias=False)
        self.new = nn.Linear(features, features, bias=False)

    def step(self, carry: Any, x: torch.Tensor) -> tuple[Any, torch.Tensor]:
        of_gates, of_new = self.input(x).split([2 * self.features, self.features], dim=-1)
        reset, update = torch.sigmoid(of_gates + self.gates(carry)).chunk(2, dim=-1)
        new = torch.tanh(of_new + self.new(reset * carry))
        h = (1 - update) * new + update * carry
        return h, h


class MinGRU(Loop):
    """GRU whose gates read the input alone."""

    def __init__(self, features: int):
        super().__init__(features)
        self.input = nn.Linear(features, 2 * features)

    def step(self, carry: Any, x: torch.Tensor) -> tuple[Any, torch.Tensor]:
        update, new = self.input(x).chunk(2, dim=-1)
        update = torch.sigmoid(update)
        h = (1 - update) * carry + update * new
        return h, h


class LRU(Loop):
    """Linear recurrent unit with a complex diagonal state; its eigenvalues once a sequence."""

    def __init__(self, features: int):
        super().__init__(features)
        matrix, vector = torch.empty(features, features), torch.empty(features)
        self.kernel_real, self.kernel_imag = nn.Parameter(matrix), nn.Parameter(matrix.clone())
        self.nu_log, self.theta_log = nn.Parameter(vector), nn.Parameter(vector.clone())
        self.gamma_log = nn.Parameter(vector.clone())
        self.output_real = nn.Parameter(matrix.clone())
        self.output_imag = nn.Parameter(matrix.clone())
        self.skip = nn.Parameter(matrix.clone())

    def initial_carry(self, x: torch.Tensor) -> Any:
        return x.new_zeros(x.shape[0], self.features, dtype=torch.complex64)

    def forward(self, xs: torch.Tensor, *extra: torch.Tensor) -> tuple[torch.Tensor, Any]:
        log = torch.complex(-torch.exp(self.nu_log), torch.exp(self.theta_log))
        self.eigenvalues, self.gamma = torch.exp(log), torch.exp(self.gamma_log)
        return super().forward(xs, *extra)

    def step(self, carry: Any, x: torch.Tensor) -> tuple[Any, torch.Tensor]:
        drive = torch.complex(x @ self.kernel_real, x @ self.kernel_imag)
        h = self.eigenvalues * carry + self.gamma * drive
        return h, h.real @ self.output_real - h.imag @ self.output_imag + x @ self.skip


def _layer_norm_lstm(params: Any) -> dict[str, Any]:
    return {
        "input.weight": params.kernel.T,
        "hidden.weight": params.recurrent_kernel.T,
        "input_norm.weight": params.norms.input,
        "hidden_norm.weight": params.norms.hidden,
        "hidden_norm.bias": params.bias,
        "cell_norm.weight": params.norms.cell,
        "cell_norm.bias": params.norms.cell_bias,
    }


def _zoneout_lstm(params: Any) -> dict[str, Any]:
    return {
        "cell.weight_ih": params.kernel.T,
        "cell.weight_hh": params.recurrent_kernel.T,
        "cell.bias_ih": 0.25 * params.bias,
        "cell.bias_hh": 0.75 * params.bias,
    }


def _reset_before_gru(params: Any) -> dict[str, Any]:
    kernel = params.recurrent_kernel.T
    gates = 2 * kernel.shape[1]
    return {
        "input.weight": params.kernel.T,
        "input.bias": params.bias,
        "gates.weight": kernel[:gates],
        "new.weight": kernel[gates:],
    }


def _min_gru(params: Any) -> dict[str, Any]:
    return {"input.weight": params.kernel.T, "input.bias": params.bias}


LOOPS: dict[str, tuple[Callable[[int], Loop], Callable[[Any], dict[str, Any]]]] = {
    "layer_norm_lstm": (LayerNormLSTM, _layer_norm_lstm),
    "zoneout_lstm": (ZoneoutLSTM, _zoneout_lstm),
    "reset_before_gru": (ResetBeforeGRU, _reset_before_gru),
    "min_gru": (MinGRU, _min_gru),
    "lru": (LRU, lambda params: params._asdict()),
}
