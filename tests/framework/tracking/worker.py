"""A run without its training, which takes seconds to import: `worker.py FOLDER FIRST LAST PAUSE path=value …`.

Tracks a loss for the steps FIRST to LAST, PAUSE seconds apart, then a report. What SAID holds is logged, raised, and
written into what a run leaves for people to look at.
"""

import logging
import os
import sys
import time
import warnings
from pathlib import Path

from poise.card import Card
from poise.config import parse, to_yaml
from poise.history import History
from poise.run_directory import RunDirectory, logged
from poise.tracking.tracker import Tracker, send_rest, tracked

log = logging.getLogger("poise")


def speak(text: str) -> None:
    log.warning("said %s", text)
    warnings.warn(text, stacklevel=1)
    try:
        raise OSError(text)
    except OSError:
        log.exception("it failed")


def leave(directory: RunDirectory, text: str) -> None:
    for name in ("report.html", "figures/reliability.svg"):
        (directory.path / name).parent.mkdir(exist_ok=True)
        (directory.path / name).write_text(text)
    directory.predictor.mkdir()
    (directory.predictor / "predictor.json").write_text(Card((2,), (text, "b"), None, sha256="0" * 64).text())
    (directory.predictor / "model.safetensors").write_bytes(b"weights")


def main(folder: str, first: str, last: str, pause: str, *settings: str) -> None:
    config = parse([f"run_dir={folder}", *settings])
    directory = RunDirectory(Path(folder))
    if directory.finished:
        send_rest(config, directory)
        return
    directory.claim(to_yaml(config))
    with logged(directory.log), tracked(config, directory, first=True) as tracker:
        if "SAID" in os.environ:
            speak(os.environ["SAID"])
        assert isinstance(tracker, Tracker)
        writes = [History(directory.curves).append, *tracker.writes()]
        for step in range(int(first), int(last) + 1):
            for write in writes:
                write({"train/loss": 1 / step, "train/lr": 0.1}, step)
            time.sleep(float(pause))
        if "SAID" in os.environ:
            leave(directory, os.environ["SAID"])
        tracker.report({"test/accuracy": 0.5}, "accuracy 0.5")
        (directory.path / "report.txt").write_text("accuracy 0.5\n")
        directory.write_report({"test/accuracy": 0.5})


if __name__ == "__main__":
    main(*sys.argv[1:])
