"""What a test starts does not outlive it, even where the tests are killed."""

import os
import subprocess
import sys

from processes import BOUND_TO

STARTS = f"""
import os, subprocess, sys
environment = {{**os.environ, "{BOUND_TO}": str(os.getpid())}}
sleeps = "print('started', flush=True); import time; time.sleep(60)"
subprocess.run([sys.executable, "-c", sleeps], env=environment)
"""


def test_what_is_bound_to_a_process_that_is_killed_ends_with_it() -> None:
    environment = {**os.environ, "POISE_SHAPE_CHECKS": "0"}
    tests = subprocess.Popen([sys.executable, "-c", STARTS], env=environment, stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    assert tests.stdout.readline() == "started\n"
    tests.kill()
    said, _ = tests.communicate(timeout=20)  # both have closed it
    assert said == ""
