"""Drawings for a report, one a file: frozen numbers that know how to draw themselves."""
