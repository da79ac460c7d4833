"""Benchmarks: workloads, hand-written rivals, the floor of a layer, and one command that prints the table."""
