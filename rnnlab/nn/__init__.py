"""Thin Flax wrappers, `rnnlab.nn.nnx` and `rnnlab.nn.linen`; importing this imports neither."""
