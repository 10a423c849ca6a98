"""From the results of claims to a page: `python tests/claims/evidence.py` writes recipes/EVIDENCE.md."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "recipes" / "EVIDENCE.md"
HEAD = """# What the recipes' papers claim, and what we saw

Written by `python tests/claims/evidence.py` from [tests/claims/results](../tests/claims/results). How a claim is
stated, judged and run: [tests/claims/README.md](../tests/claims/README.md). These are small models on little data: a
verdict is about this setting, and says nothing of the paper's own.
"""

Line = Mapping[str, Any]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(RESULTS), encoding="utf-8")
    print(f"wrote {PAGE}")


def page(folder: Path) -> str:
    """The page of all results in a folder."""
    sections = [section(_lines(path)) for path in sorted(folder.glob("*.json"))]
    return "\n".join([HEAD, *sections])


def section(lines: Sequence[Line]) -> str:
    """What is known of one claim: its statement, its verdicts, its numbers."""
    claim, measured = lines[0]["stated"], [line for line in lines if "numbers" in line]
    parts = [f"## {claim['name']}", claim["says"], "\n".join(_statement(lines[0], measured))]
    if verdicts := [line for line in lines if "verdict" in line]:
        parts.append("\n".join(_verdicts(verdicts)))
    else:
        runs = len(claim["settings"]) * len(claim["arms"]) * claim["seeds"]
        parts.append(f"Not judged yet: {len(measured)} of {runs} runs are done.")
    if measured:
        parts.append("\n".join(_numbers(claim, measured)))
    return "\n\n".join(parts) + "\n"


def _statement(stated: Line, measured: Sequence[Line]) -> Iterator[str]:
    claim = stated["stated"]
    for setting in claim["settings"]:
        said = ", ".join(f"{name} {_short(value)}" for name, value in setting.items() if name != "data" and value)
        trained = " AdamW, cosine;" if "lr" in setting else ""
        yield f"- {setting['data']}: {said};{trained} {claim['seeds']} seeds."
    yield f"- Measured: {claim['measure']}"
    for source in dict.fromkeys(effect["source"] for effect in claim.get("effects", ())):
        yield f"- Source: {source}."
    yield f"- Verdicts: {claim['rule']}."
    used = sum(line["processor_seconds"] for line in measured) / 60
    last = max((line["date"] for line in measured), default="-")
    yield f"- Stated {stated['date']}; run until {last}, {used:.0f} minutes of one core so far."


def _short(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _verdicts(verdicts: Sequence[Line]) -> Iterator[str]:
    yield "| effect | on | mean | 95 % interval | each seed | expected | verdict |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for line in verdicts:
        interval = " … ".join(f"{end:.2f}" for end in line.get("interval", ()))
        seeds = ", ".join(f"{value:.2f}" for value in line.get("values", ()))
        expected = line.get("paper", line.get("allowed"))
        paper = "above 0" if expected is None else f"{expected:g}"
        cells = (line["effect"], line["on"], f"{line['mean']:.2f}", interval, seeds, paper)
        yield f"| {' | '.join(cells)} | **{line['verdict']}** |"


def _numbers(claim: Line, measured: Sequence[Line]) -> Iterator[str]:
    names = list(measured[0]["numbers"])
    yield f"| mean over seeds | on | {' | '.join(names)} |"
    yield f"| --- | --- |{' --- |' * len(names)}"
    for setting in claim["settings"]:
        for arm in claim["arms"]:
            runs = [m["numbers"] for m in measured if (m["data"], m["arm"]) == (setting["data"], arm["name"])]
            if runs:
                means = [_mean([run[name] for run in runs if name in run]) for name in names]
                yield f"| {arm['name']} | {setting['data']} | {' | '.join(means)} |"


def _mean(values: Sequence[float]) -> str:
    return f"{mean(values):.2f}" if values else ""


def _lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
