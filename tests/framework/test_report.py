from poise.report import render

METRICS = {
    "val/accuracy": 0.5,
    "test/accuracy": 0.81234,
    "test/ece": 0.1,
    "test/accuracy/class/cat": 0.9,
    "test/accuracy/class/dog": 0.7,
    "test/worst_class_accuracy": 0.7,
    "test/scaled/accuracy": 0.81234,
    "test/scaled/ece": 0.02,
    "test/scaled/worst_class_accuracy": 0.7,
    "snow/accuracy": 0.25,
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_each_split_is_a_table_with_a_column_for_each_calibrator() -> None:
    text = render(METRICS, ["scaled"])
    lines = [cells(line) for line in text.splitlines() if line.startswith("│")]
    assert ["accuracy", "81.23 %", "81.23 %"] in lines
    assert ["ece", "0.1000", "0.0200 *"] in lines
    assert ["accuracy", "25.00 %"] in lines
    titles = [line.strip() for line in text.splitlines() if line.strip() in ("val", "test", "snow")]
    assert titles == ["test", "snow"]


def test_the_worst_class_is_named_and_calibrators_are_no_rows() -> None:
    text = render(METRICS, ["scaled"])
    assert "worst_class_accuracy (dog)" in text
    assert "scaled/" not in text
    assert "\x1b[" not in text
