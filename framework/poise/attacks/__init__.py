"""Algorithms that look for the worst input inside a threat; used by recipes and by evaluators."""
