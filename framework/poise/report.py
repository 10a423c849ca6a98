"""The final metrics as a table: one column before calibration, one for each calibrator."""

from collections.abc import Mapping, Sequence
from io import StringIO

from rich.console import Console
from rich.table import Table

PERCENT = ("accuracy",)


def render(metrics: Mapping[str, float], calibrators: Sequence[str], width: int = 100, colour: bool = False) -> str:
    """The report table of every split that was evaluated.

    Args:
        metrics: flat, `<split>/<metric>` and `<split>/<calibrator>/<metric>`.
        calibrators: names, in order.
        width: of the console, in characters.
        colour: whether it is for a terminal.
    """
    text = StringIO()
    console = Console(file=text, width=width, force_terminal=colour, no_color=not colour)
    for split in _splits(metrics):
        console.print(_table(split, metrics, calibrators))
    return text.getvalue()


def _splits(metrics: Mapping[str, float]) -> list[str]:
    """Names before the first slash that have an accuracy, in order."""
    return [
        name.removesuffix("/accuracy")
        for name in metrics
        if name.count("/") == 1 and name.endswith("/accuracy") and not name.startswith("val/")
    ]


def _table(split: str, metrics: Mapping[str, float], calibrators: Sequence[str]) -> Table:
    table = Table(title=split, title_justify="left", header_style="bold")
    table.add_column("metric")
    for column in ("uncalibrated", *calibrators):
        table.add_column(column, justify="right")
    prefixes = [split, *(f"{split}/{name}" for name in calibrators)]
    for row in _rows(split, metrics, calibrators):
        values = [_shown(row, metrics.get(f"{prefix}/{row}")) for prefix in prefixes]
        table.add_row(_name(row, split, metrics), *values)
    return table


def _rows(split: str, metrics: Mapping[str, float], calibrators: Sequence[str]) -> list[str]:
    own = [name.removeprefix(f"{split}/") for name in metrics if name.startswith(f"{split}/")]
    return [name for name in own if name.split("/")[0] not in calibrators]


def _name(row: str, split: str, metrics: Mapping[str, float]) -> str:
    """A row's label; the worst class and group are named."""
    if not row.startswith("worst_"):
        return row
    part = row.split("_")[1]
    prefix = f"{split}/accuracy/{part}/"
    accuracy = {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
    return f"{row} ({min(accuracy, key=lambda name: accuracy[name])})" if accuracy else row


def _shown(row: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{100 * value:.2f} %" if any(word in row for word in PERCENT) else f"{value:.4f}"
