"""Claims are stated before they run, judged by their rule, and shown as they are; no test says what comes out."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claims.calibration import h_calibration_beside_others
from claims.claim import Claim
from claims.comparing import NO_BREAK, comparison
from claims.evidence import page
from claims.judging import Interval, judged
from claims.proving import Line, prove
from claims.training import Setting

FAMILIES = ("adversarial", "calibration")
PROGRAMS = {
    path.stem: path.parent.name
    for family in FAMILIES
    for path in sorted((Path(__file__).parent / family).glob("*.py"))
    if "CLAIM = Claim(" in path.read_text(encoding="utf-8")
}
TINY = Setting("digits", train=64, epochs=1, eps=0.1, width=2, warm=1)


def claim(name: str) -> Claim:
    found: Claim = import_module(f"claims.{PROGRAMS[name]}.{name}").CLAIM
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_states_a_claim(name: str) -> None:
    stated = claim(name)
    assert stated.name == name
    assert stated.seeds >= (3 if PROGRAMS[name] == "adversarial" else 5)
    assert stated.minutes <= 20
    assert all(effect.source for effect in stated.effects)
    json.dumps(stated.stated())


def test_a_claim_runs_from_statement_to_verdict_and_is_not_run_again(tmp_path: Path) -> None:
    tiny = replace(claim("adversarial_training"), settings=(TINY,), seeds=2)
    said: list[Line] = []
    verdicts = prove(tiny, tmp_path, said.append)
    lines = [json.loads(line) for line in (tmp_path / "adversarial_training.json").read_text().splitlines()]
    assert lines == json.loads(json.dumps(said))
    assert [next(iter(line)) for line in lines] == ["stated", "data", "data", "data", "data", "effect"]
    robust = {(line["seed"], line["arm"]): line["numbers"]["robust"] for line in lines if "numbers" in line}
    assert verdicts[0]["values"] == [round(robust[seed, "pgd_at"] - robust[seed, "plain"], 2) for seed in (0, 1)]
    assert prove(tiny, tmp_path, lambda line: None) == verdicts
    again: list[Line] = []
    with pytest.raises(KeyError, match="nothing of that"):
        prove(replace(tiny, minutes=1, measure=nothing), tmp_path, again.append)
    assert len(again) == 1, "under another statement all is measured anew"
    shown = page(tmp_path)
    assert "## adversarial_training" in shown
    assert "Not judged yet: 0 of 4 runs are done." in shown


def nothing(run: object) -> dict[str, float]:
    """Nothing."""
    raise KeyError("nothing of that")


def test_verdicts_stand_on_the_page(tmp_path: Path) -> None:
    stated = {"stated": claim("trades_beta").stated(), "date": "2030-01-01"}
    numbers = {"data": "mnist", "seed": 0, "arm": "beta 1", "numbers": {"clean": 90.0, "robust": 40.0}}
    run = {**numbers, "processor_seconds": 120.0, "seconds": 130.0, "date": "2030-01-02"}
    verdict = {"effect": "one", "on": "mnist", "values": [1.0, 2.0], "mean": 1.5, "interval": [-4.85, 7.85]}
    judgement = {**verdict, "paper": None, "verdict": "undecided", "date": "2030-01-02"}
    (tmp_path / "trades_beta.json").write_text("".join(f"{json.dumps(line)}\n" for line in (stated, run, judgement)))
    shown = page(tmp_path)
    assert "| one | mnist | 1.50 | -4.85 … 7.85 | 1.00, 2.00 | above 0 | **undecided** |" in shown
    assert "| beta 1 | mnist | 90.00 | 40.00 |" in shown
    assert "run until 2030-01-02, 2 minutes of one core so far" in shown


def test_arms_are_told_apart_where_their_differences_are_and_only_the_lowest_of_all_is_bold() -> None:
    runs = {
        "ours": [{"a": 1.0, "b": 5.0}, {"a": 2.0, "b": 5.1}, {"a": 3.0, "b": 4.9}],
        "worse": [{"a": 2.0, "b": 6.0}, {"a": 3.1, "b": 6.2}, {"a": 3.9, "b": 5.8}],
        "unlike": [{"a": 0.1, "b": 4.0}, {"a": 2.9, "b": 4.3}, {"a": 2.1, "b": 4.0}],
    }
    lines = [line.replace(NO_BREAK, " ") for line in comparison("mnist", "ours", runs)]
    head, _, first, second, third = lines
    assert head == "| on mnist | ▲ · even · ▼ | a | b |"
    assert first.startswith("| unlike | 0 · 1 · 1 | 1.70 ± 3.58 | **4.10 ± 0.43** ▼ |")
    assert second.startswith("| ours |  | 2.00 ± 2.48 | 5.00 ± 0.25 |")
    assert third.startswith("| worse | 2 · 0 · 0 | 3.00 ± 2.37 ▲ | 6.00 ± 0.50 ▲ |")


def test_all_calibrators_of_a_seed_are_fitted_to_one_network(tmp_path: Path) -> None:
    beside = claim("h_calibration_beside_others")
    digits = replace(beside.settings[0], data="digits", source="digits", train=64, epochs=1, width=2, held_out=300)
    arms = tuple(arm for arm in beside.arms if arm.name in ("uncalibrated", "temperature_scaling", "h_calibration"))
    h_calibration_beside_others.network.cache_clear()
    verdicts = prove(replace(beside, settings=(digits,), arms=arms, seeds=2), tmp_path, lambda line: None)
    assert h_calibration_beside_others.network.cache_info().misses == 2, "one training for each seed"
    assert len(verdicts) == 10
    shown = page(tmp_path)
    assert "| [h_calibration_beside_others](#h_calibration_beside_others) |" in shown
    rows = [line for line in shown.splitlines() if line.startswith(tuple(f"| {arm.name} |" for arm in arms))]
    assert len(rows) == 3


def test_what_is_to_be_remarked_stands_beside_the_numbers(tmp_path: Path) -> None:
    stated = {"stated": claim("trades_beta").stated(), "date": "2030-01-01"}
    (tmp_path / "trades_beta.json").write_text(f"{json.dumps(stated)}\n")
    (tmp_path / "trades_beta.md").write_text("Small.\n")
    assert "\n\nRemark: Small.\n" in page(tmp_path)


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=3))
def test_the_interval_of_three_seeds_is_students(values: list[float]) -> None:
    interval = Interval.of(values)
    half = 4.302653 * stdev(values) / 3**0.5  # the 0.975 quantile of two degrees of freedom, from a table
    assert interval.mean == pytest.approx(mean(values))
    assert interval.high - interval.mean == pytest.approx(half, rel=1e-6, abs=1e-9)
    assert interval.mean - interval.low == pytest.approx(half, rel=1e-6, abs=1e-9)


VERDICTS: Mapping[tuple[float, float, float | None], str] = {
    (1, 3, 10): "shown",
    (1, 3, None): "shown",
    (-1, 3, 10): "null",
    (-1, 12, 10): "undecided",
    (-1, 3, None): "undecided",
    (-3, -1, None): "null",
    (-3, -1, 10): "null",
}


@pytest.mark.parametrize("ends", VERDICTS)
def test_a_null_needs_the_papers_effect_outside_the_interval(ends: tuple[float, float, float | None]) -> None:
    low, high, paper = ends
    assert judged(Interval((low + high) / 2, low, high), paper) == VERDICTS[ends]
