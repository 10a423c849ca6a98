"""AutoAttack's verdict, beside that of its authors' code: the same accuracy after each attack, of the same examples.

PYTHONPATH=tests python tests/claims/adversarial/autoattack.py <checkout of fra31/auto-attack>
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import stdev
from typing import Any

import torch
from torch import Tensor, nn

from claims.proving import RESULTS, Line, today, write
from claims.training import Arm, Setting, Trained, trained
from poise.attacks.autoattack import AutoAttack
from poise.batch import as_input

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
SEEDS = 3
# each with the number of test pictures that are attacked
SETTINGS = (
    (Setting("mnist", train=5000, epochs=10, eps=0.1, width=4), 1000),
    (Setting("cifar10", train=5000, epochs=10, eps=8 / 255, width=4), 500),
)
ARM = Arm("trades", {"name": "trades", "trades": {"beta": 3.0}, "pgd": {"steps": 7}})
STATED = {
    "name": "autoattack",
    "says": "AutoAttack, standard, gives the verdict of its authors' code.",
    "settings": [{**asdict(setting), "pictures": pictures} for setting, pictures in SETTINGS],
    "arms": [{"name": "reference"}, {"name": "poise"}],
    "measure": "Accuracy in percent after each attack, of poise and of github.com/fra31/auto-attack on one small_cnn "
    f"that TRADES trained (beta 3, 7 steps); {SEEDS} seeds of the attacks each.",
    "rule": "shown where after each attack poise's mean lies within max(0.2 points, 2 standard deviations of the "
    "reference over its seeds) of the reference's, and where of seed 0 both give the same verdict on 99 % of the "
    "pictures or more; else refuted",
    "minutes": 20,
    "seeds": SEEDS,
}


def poise(model: nn.Module, run: Trained, x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
    """Which pictures are right after each attack."""
    return dict(AutoAttack(run.threat).run(model, x, y, seed).robust)


def reference(model: nn.Module, run: Trained, x: Tensor, y: Tensor, seed: int) -> dict[str, Tensor]:
    """The same, by the authors' code."""
    from autoattack import AutoAttack as Theirs  # type: ignore[import-not-found]

    theirs = Theirs(model, norm="Linf", eps=run.threat.eps, seed=seed, verbose=False, device="cpu")
    right, found = model(x).argmax(1) == y, {}
    found["clean"] = right.clone()
    for name in ATTACKS:
        theirs.attacks_to_run = [name]
        rows = right.nonzero().flatten()
        x_adv = theirs.run_standard_evaluation(x[rows], y[rows], bs=250)
        right[rows] = model(x_adv).argmax(1) == y[rows]
        found[name] = right.clone()
    return found


CODES: dict[str, Callable[..., dict[str, Tensor]]] = {"reference": reference, "poise": poise}


def measured(setting: Setting, pictures: int, say: Callable[[Line], None]) -> Iterator[Line]:
    """A line for each seed of each code, and at the end the verdict."""
    with trained(setting, ARM, seed=0) as run:
        part = run.splits.test.fetch(torch.arange(pictures))
        x, y = as_input(part["x"]), part["label"]
        model = run.best.eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        right: dict[str, list[dict[str, Tensor]]] = {code: [] for code in CODES}
        for seed in range(SEEDS):
            for code, attack in CODES.items():
                begun = time.process_time()
                right[code].append(attack(model, run, x, y, seed))
                yield {
                    "data": setting.data,
                    "seed": seed,
                    "arm": code,
                    "numbers": {name: _percent(rows) for name, rows in right[code][-1].items()},
                    "processor_seconds": round(time.process_time() - begun, 1),
                    "date": today(),
                }
    yield from _verdicts(setting.data, right)


def _verdicts(data: str, right: dict[str, list[dict[str, Tensor]]]) -> Iterator[Line]:
    for name in ATTACKS:
        ours, theirs = ([_percent(seed[name]) for seed in right[code]] for code in ("poise", "reference"))
        difference = sum(ours) / SEEDS - sum(theirs) / SEEDS
        allowed = max(0.2, 2 * stdev(theirs))
        yield {
            "effect": f"accuracy after {name}, poise above the reference, points",
            "on": data,
            "poise": ours,
            "reference": theirs,
            "mean": round(difference, 3),
            "allowed": round(allowed, 3),
            "verdict": "shown" if abs(difference) <= allowed + 1e-9 else "refuted",
            "date": today(),
        }
    agreed = _percent(right["poise"][0][ATTACKS[-1]] == right["reference"][0][ATTACKS[-1]])
    yield {
        "effect": "pictures with the same verdict, percent",
        "on": data,
        "mean": agreed,
        "allowed": 99.0,
        "verdict": "shown" if agreed >= 99 else "refuted",
        "date": today(),
    }


def _percent(rows: Tensor) -> float:
    return round(100 * float(rows.double().mean()), 3)


def main() -> None:
    """State, measure, judge, write down."""
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    sys.path.insert(0, str(Path(sys.argv[1])))
    path = RESULTS / "autoattack.json"
    lines: list[Any] = []

    def say(line: Line) -> None:
        lines.append(line)
        print(json.dumps(line, ensure_ascii=False), flush=True)
        write(path, lines)

    say({"stated": STATED, "date": today()})
    for setting, pictures in SETTINGS:
        for line in measured(setting, pictures, say):
            say(line)


if __name__ == "__main__":
    main()
