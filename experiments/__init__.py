"""Experiments: one short file each, run as `python -m experiments.NAME`. Nothing imports them."""
