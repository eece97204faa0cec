"""Benchmarks: every claim is a number that one command reproduces."""
