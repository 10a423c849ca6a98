"""Wrappers: one a file."""
