"""Run by every Python that starts with this folder on PYTHONPATH: the rank processes of the tests."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it once, when it is imported

try:
    from shape_checks import install
except ModuleNotFoundError:  # another environment's Python, started by a test: nothing of ours runs there
    pass
else:
    install()
