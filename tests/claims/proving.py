"""A claim from its statement to its verdicts, written down as it goes on."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from claims.claim import Claim, Effect, Numbers
from claims.judging import Interval, judged
from claims.training import Arm
from poise.errors import UserError

RESULTS = Path(__file__).parent / "results"

Line = dict[str, Any]


def main(claim: Claim) -> None:
    """State the claim, run what was not run yet, judge it, and print it all: what a claim's program does."""
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    try:
        prove(claim, RESULTS, say=lambda line: print(json.dumps(line, ensure_ascii=False), flush=True))
    except UserError as error:
        sys.exit(str(error))


def prove(claim: Claim, folder: Path, say: Callable[[Line], None]) -> list[Line]:
    """The verdicts on a claim; each line of the results is written to `<name>.json` and said once it is known.

    The statement is the first line, written before anything is trained. What was measured under the same statement is
    not measured again; under another one it is measured anew.

    Args:
        claim: what to prove.
        folder: of the results.
        say: told each line.
    """
    path = folder / f"{claim.name}.json"
    stated: Line = {"stated": claim.stated(), "date": today()}
    say(stated)
    kept = _kept(path, stated["stated"])
    lines = kept or [stated]
    write(path, lines)
    done = {(line["data"], line["seed"], line["arm"]) for line in lines if "numbers" in line}
    for setting, seed, arm in _runs(claim):
        if (setting.data, seed, arm.name) not in done:
            lines.append(_measured(claim, setting, seed, arm))
            say(lines[-1])
            write(path, lines)
    verdicts = [_verdict(effect, setting.data, lines) for setting in claim.settings for effect in claim.effects]
    write(path, [*lines, *verdicts])
    for verdict in verdicts:
        say(verdict)
    return verdicts


def _runs(claim: Claim) -> Iterator[tuple[Any, int, Arm]]:
    """Seed by seed, so that what is done early is a comparison."""
    for setting in claim.settings:
        for seed in range(claim.seeds):
            for arm in claim.arms:
                yield setting, seed, arm


def _measured(claim: Claim, setting: Any, seed: int, arm: Arm) -> Line:
    begun, used = time.monotonic(), time.process_time()
    with claim.run(setting, arm, seed) as run:
        numbers = claim.measure(run)
    return {
        "data": setting.data,
        "seed": seed,
        "arm": arm.name,
        "numbers": {name: round(value, 4) for name, value in numbers.items()},
        "processor_seconds": round(time.process_time() - used, 1),
        "seconds": round(time.monotonic() - begun, 1),
        "date": today(),
    }


def _verdict(effect: Effect, data: str, lines: list[Line]) -> Line:
    seeds: dict[int, dict[str, Numbers]] = {}
    for line in lines:
        if line.get("data") == data:
            seeds.setdefault(line["seed"], {})[line["arm"]] = line["numbers"]
    values = [effect.of(arms) for arms in seeds.values()]
    interval, paper = Interval.of(values), effect.paper.get(data)
    return {
        "effect": effect.what,
        "on": data,
        "values": [round(value, 2) for value in values],
        "mean": round(interval.mean, 2),
        "interval": [round(interval.low, 2), round(interval.high, 2)],
        "paper": paper,
        "verdict": judged(interval, paper),
        "date": today(),
    }


def _kept(path: Path, stated: Line) -> list[Line]:
    """The statement and what was measured under it; nothing where another one was made."""
    if not path.is_file():
        return []
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    same = lines and lines[0].get("stated") == json.loads(json.dumps(stated))
    return [line for line in lines if "stated" in line or "numbers" in line] if same else []


def write(path: Path, lines: list[Line]) -> None:
    """Write results, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines), encoding="utf-8")
    os.replace(partial, path)


def today() -> str:
    """The date, as lines have it."""
    return datetime.now(UTC).date().isoformat()
