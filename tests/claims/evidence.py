"""From the results of claims to a page: `python tests/claims/evidence.py` writes recipes/EVIDENCE.md."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from claims.comparing import comparison, legend, spread
from claims.judging import RULE

VERDICTS = ("shown", "undecided", "null", "refuted")

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "recipes" / "EVIDENCE.md"
HEAD = f"""# What the recipes' papers claim, and what we saw

Written by `python tests/claims/evidence.py` from [tests/claims/results](../tests/claims/results). How a claim is
stated, judged and run: [tests/claims/README.md](../tests/claims/README.md). These are small models on little data: a
verdict is about this setting, and says nothing of the paper's own.

All arms of a seed share data, weights and draws, so intervals are of paired differences. Verdicts, unless another rule
stands with a claim: {RULE}.

Settings name the examples that are trained on (`train`), plain epochs before all arms (`warm`), the radius of the linf
threat (`eps`), examples that calibrators are fitted to (`held_out`), and the share of labels that are wrong (`rate`).
"""

Line = Mapping[str, Any]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(RESULTS), encoding="utf-8")
    print(f"wrote {PAGE}")


def page(folder: Path) -> str:
    """The page of all results in a folder."""
    paths = sorted(folder.glob("*.json"))
    claims = [_lines(path) for path in paths]
    remarks = [path.with_suffix(".md") for path in paths]
    sections = [section(lines, _remark(path)) for lines, path in zip(claims, remarks, strict=True)]
    return "\n".join([HEAD, *_overview(claims), "", *sections])


def _overview(claims: Sequence[Sequence[Line]]) -> Iterator[str]:
    yield "| claim | in words | verdicts on its effects |"
    yield "| --- | --- | --- |"
    for lines in claims:
        claim, found = lines[0]["stated"], [line["verdict"] for line in lines if "verdict" in line]
        counts = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found)
        yield f"| [{claim['name']}](#{claim['name']}) | {claim['says']} | {counts or 'not judged yet'} |"


def section(lines: Sequence[Line], remark: str = "") -> str:
    """What is known of one claim: what a paper says, the statement, verdicts, what is to be remarked, numbers."""
    claim, measured = lines[0]["stated"], [line for line in lines if "numbers" in line]
    parts = [f"## {claim['name']}", f"Claim: {claim['says']}", "\n".join(_statement(lines[0], measured))]
    if verdicts := [line for line in lines if "verdict" in line]:
        parts.append("\n".join(_verdicts(verdicts)))
    else:
        runs = len(claim["settings"]) * len(claim["arms"]) * claim["seeds"]
        parts.append(f"Not judged yet: {len(measured)} of {runs} runs are done.")
    parts += [remark] if remark else []
    parts += _compared(claim, measured) if "beside" in claim else _numbers(claim, measured)
    return "\n\n".join(parts) + "\n"


def _remark(path: Path) -> str:
    return f"Remark: {path.read_text(encoding='utf-8').strip()}" if path.is_file() else ""


def _statement(stated: Line, measured: Sequence[Line]) -> Iterator[str]:
    claim = stated["stated"]
    for setting in claim["settings"]:
        said = ", ".join(f"{name} {_short(value)}" for name, value in setting.items() if name != "data" and value)
        trained = " AdamW, cosine;" if "lr" in setting else ""
        yield f"- {setting['data']}: {said};{trained} {claim['seeds']} seeds."
    yield f"- Measured: {claim['measure']}"
    for source in dict.fromkeys(effect["source"] for effect in claim.get("effects", ())):
        yield f"- Source: {source}."
    if claim["rule"] != RULE:
        yield f"- Verdicts: {claim['rule']}."
    used = sum(line["processor_seconds"] for line in measured) / 60
    last = max((line["date"] for line in measured), default="-")
    yield f"- Stated {stated['date']}; run until {last}, {used:.0f} minutes of one core so far."


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _verdicts(verdicts: Sequence[Line]) -> Iterator[str]:
    column = "the paper's" if "paper" in verdicts[0] else "allowed"
    yield f"| effect | on | mean | 95 % interval | each seed | {column} | verdict |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for line in verdicts:
        interval = " … ".join(f"{end:.2f}" for end in line.get("interval", ()))
        seeds = ", ".join(f"{value:.2f}" for value in line.get("values", ()))
        expected = line.get("paper", line.get("allowed"))
        bound = "above 0" if expected is None else f"{expected:g}"
        cells = (line["effect"], line["on"], f"{line['mean']:.2f}", interval, seeds, bound)
        yield f"| {' | '.join(cells)} | **{line['verdict']}** |"


def _numbers(claim: Line, measured: Sequence[Line]) -> Iterator[str]:
    """One table of all settings and arms."""
    if not measured:
        return
    names = list(measured[0]["numbers"])
    rows = [
        f"| mean ± half its 95 % interval | on | {' | '.join(names)} |",
        f"| --- | --- |{' --- |' * len(names)}",
    ]
    for setting in claim["settings"]:
        for arm in claim["arms"]:
            runs = [m["numbers"] for m in measured if (m["data"], m["arm"]) == (setting["data"], arm["name"])]
            if runs:
                cells = [spread([run[name] for run in runs if name in run]) for name in names]
                rows.append(f"| {arm['name']} | {setting['data']} | {' | '.join(cells)} |")
    yield "\n".join(rows)


def _compared(claim: Line, measured: Sequence[Line]) -> Iterator[str]:
    """What tables mean, and one for each setting of which two seeds or more are whole."""
    yield legend(claim["beside"])
    for setting in claim["settings"]:
        done = {(m["arm"], m["seed"]): m["numbers"] for m in measured if m["data"] == setting["data"]}
        arms = [arm["name"] for arm in claim["arms"]]
        whole = [seed for seed in range(claim["seeds"]) if all((arm, seed) in done for arm in arms)]
        if len(whole) >= 2:
            runs = {arm: [done[arm, seed] for seed in whole] for arm in arms}
            yield "\n".join(comparison(setting["data"], claim["beside"], runs))


def _lines(path: Path) -> list[Line]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    main()
