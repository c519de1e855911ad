"""Layer 3: kernels that run a whole sequence in one call. They list their cells; cells know none.

`python -m rnnlab.kernels.build` compiles the CPU kernel, which `rnnlab.strategies.Fused` runs.
"""
