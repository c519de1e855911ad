"""Layer 4: other libraries' cells, run by `rnnlab.unroll`."""
