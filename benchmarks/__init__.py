"""Microbenchmarks: named shapes, interleaved timing, one file per question."""
