"""Fault injection: each script causes faults on purpose and prints the result."""
