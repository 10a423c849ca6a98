"""Run by every Python that starts with this folder on PYTHONPATH: the rank processes of the tests."""

import ctypes
import os
import signal
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it once, when it is imported

if sys.platform == "linux" and os.environ.get("POISE_TEST_BOUND_TO") == str(os.getppid()):
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with the tests that started it

try:
    from shape_checks import install
except ModuleNotFoundError:  # another environment's Python, started by a test: nothing of ours runs there
    pass
else:
    install()
