"""`python -m poise`: the command, and what ranks are started with."""

import os
import sys

if __name__ == "__main__":
    if sys.path and sys.path[0] in ("", os.getcwd()):
        sys.path.append(sys.path.pop(0))  # the working directory is searched last, as by the command

    try:
        from poise.cli import main
        from poise.launching import leave_group
    except KeyboardInterrupt:  # nothing was begun
        sys.exit(130)

    code = main()
    if code == 0:  # after a failure others may still be waiting for this rank
        leave_group()
    sys.exit(code)
