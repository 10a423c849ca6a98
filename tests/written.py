"""Files that stand in the repository and follow from the registry: compared, or written where that is asked for."""

import os
from pathlib import Path

ACCEPT = "POISE_ACCEPT"


def hold(path: Path, wanted: str) -> None:
    """Compare a file with what it has to be; with POISE_ACCEPT=1 in the environment, write it."""
    if os.environ.get(ACCEPT):
        path.write_text(wanted, encoding="utf-8")
    found = path.read_text(encoding="utf-8")
    new = sorted(set(wanted.splitlines()) - set(found.splitlines()))
    gone = sorted(set(found.splitlines()) - set(wanted.splitlines()))
    lines = [*(f"+ {line}" for line in new), *(f"- {line}" for line in gone)] or ["another order"]
    way_out = f"`{ACCEPT}=1 tests/run.sh tests/contracts tests/test_readme.py` writes it; look at its diff"
    assert found == wanted, "\n".join([f"{path.name} is not what follows from the registry: {way_out}", *lines])
