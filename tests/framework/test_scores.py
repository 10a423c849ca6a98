import math

from hypothesis import given
from hypothesis import strategies as st

from poise.scores import FEW, WORST, Row, by_shift, sheets

METRICS = {
    "test/accuracy": 0.9,
    "test/nll": 0.5,
    "test/group_size": 3.0,
    "test/accuracy/class/a/b": 0.8,
    "test/accuracy/class/c": 1.0,
    "test/worst_class_accuracy": 0.8,
    "test/robust_accuracy/pgd-20": 0.4,
    "test/robust_accuracy/pgd-20/class/a/b": 0.6,
    "test/robust_accuracy/pgd-20/class/c": 0.2,
    "test/worst_class_robust_accuracy/pgd-20": 0.2,
    "test/robust_accuracy/pgd-20/radius/0": 0.9,
    "test/robust_accuracy/pgd-20/radius/0.5": 0.7,
    "test/scaled/accuracy": 0.9,
    "test/scaled/nll": 0.25,
    "test/scaled/accuracy/class/a/b": 0.8,
    "test/scaled/accuracy/class/c": 1.0,
    "test/scaled/worst_class_accuracy": 0.8,
    "test/vector/accuracy": 0.95,
    "test/vector/nll": 0.25,
    "test/vector/accuracy/class/a/b": 0.9,
    "test/vector/accuracy/class/c": 0.7,
    "test/vector/worst_class_accuracy": 0.7,
}
(TEST,) = sheets(METRICS, ["scaled", "vector"])


def test_scores_are_rows_and_calibrators_columns() -> None:
    table = TEST.scores()
    assert table.headings == ("metric", "uncalibrated", "scaled", "vector")
    assert table.rows[0] == Row("accuracy", ("90.00 %", "90.00 %", "95.00 %"), frozenset({2}))
    assert table.rows[1] == Row("nll", ("0.5000", "0.2500", "0.2500"), frozenset({1, 2}))
    assert table.rows[2] == Row("group_size", ("3.0000", "", ""))
    assert [row.name for row in table.rows[3:]] == [
        "worst_class_accuracy",
        "robust_accuracy/pgd-20",
        "worst_class_robust_accuracy/pgd-20 (c)",
    ]


def test_the_worst_is_named_in_each_cell_where_columns_differ() -> None:
    worst = TEST.scores().rows[3]
    assert worst.cells == ("80.00 % (a/b)", "80.00 % (a/b)", "70.00 % (c)")


def test_parts_have_a_column_for_each_measure_and_for_what_changes_it() -> None:
    table = TEST.parts("class")
    assert table is not None
    assert table.headings == ("class", "accuracy", "robust_accuracy/pgd-20", "accuracy, vector")
    assert table.rows == (
        Row("a/b", ("80.00 %", "60.00 %", "90.00 %")),
        Row("c", ("100.00 %", "20.00 %", "70.00 %")),
    )
    assert TEST.parts("group") is None
    radii = TEST.parts("radius")
    assert radii is not None
    assert [row.name for row in radii.rows] == ["0", "0.5"]


def test_of_many_the_worst_are_shown_where_there_is_little_room() -> None:
    count = FEW + 80
    metrics = {f"test/accuracy/class/{part}": (part * 7 % count) / count for part in range(count)}
    (sheet,) = sheets(metrics, [])
    few, whole = sheet.parts("class"), sheet.parts("class", few=None)
    assert few is not None
    assert whole is not None
    assert [row.cells for row in few.rows] == [(f"{part}.00 %",) for part in range(WORST)]
    assert few.note == "the worst 5 of 100 classes by accuracy; report.json has all"
    assert len(whole.rows) == count


def test_what_is_below_zero_by_chance_has_no_best_and_what_is_an_error_has() -> None:
    metrics = {"test/ks": 0.2, "test/scaled/ks": 0.1, "test/ece_debiased": 0.01, "test/scaled/ece_debiased": -0.1}
    assert [row.best for row in sheets(metrics, ["scaled"])[0].scores().rows] == [{1}, set()]


def test_of_errors_the_largest_are_the_worst_and_are_no_percentages() -> None:
    metrics = {f"test/classwise_ece/class/c{part}": part / 100 for part in range(FEW + 1)}
    table = sheets(metrics, [])[0].parts("class")
    assert table is not None
    assert [row.name for row in table.rows] == [f"c{part}" for part in range(FEW, FEW - WORST, -1)]
    assert table.rows[0].cells == ("0.2000",)


@given(st.lists(st.sampled_from([0.5, 0.50001, 0.6, math.nan, math.inf]), min_size=1, max_size=4))
def test_best_is_the_least_loss_to_the_digits_shown_and_nothing_where_all_are_alike(values: list[float]) -> None:
    names = [f"c{place}" for place in range(1, len(values))]
    metrics = {f"test/{f'{name}/' if name else ''}nll": value for name, value in zip(["", *names], values, strict=True)}
    (sheet,) = sheets(metrics, names)
    (row,) = sheet.scores().rows
    shown = [f"{value:.4f}" for value in values]
    finite = {text for text in shown if text not in ("nan", "inf")}
    best = {place for place, text in enumerate(shown) if text == min(finite)} if len(finite) > 1 else set()
    assert row.cells == tuple(shown)
    assert row.best == best


def test_shifts_stand_together_with_test_and_their_mean() -> None:
    metrics = {
        f"{split}/{name}": value
        for split, shares in {"test": (0.9, 0.1, 0.05), "fog-3": (0.5, 0.3, 0.2), "shifts": (0.5, 0.3, 0.2)}.items()
        for name, value in zip(("accuracy", "ece", "scaled/ece"), shares, strict=True)
    }
    metrics |= {f"{split}/scaled/accuracy": metrics[f"{split}/accuracy"] for split in ("test", "fog-3", "shifts")}
    accuracy, ece = by_shift(sheets({"val/accuracy": 0.4, **metrics, "shifts/brier": 0.5}, ["scaled"]))
    assert (accuracy.title, accuracy.headings) == ("shifts, accuracy", ("accuracy", "uncalibrated"))
    assert [row.cells for row in accuracy.rows] == [("90.00 %",), ("50.00 %",), ("50.00 %",)]
    assert ece.headings == ("ece", "uncalibrated", "scaled")
    assert ece.rows == (
        Row("test", ("0.1000", "0.0500"), frozenset({1})),
        Row("fog-3", ("0.3000", "0.2000"), frozenset({1})),
        Row("mean of shifts", ("0.3000", "0.2000"), frozenset({1})),
    )
    assert not by_shift([TEST])
    assert not by_shift(sheets({"shifts/brier": 0.5, "shifts/scaled/accuracy": 1.0}, ["scaled"]))


def test_what_is_attacked_has_a_table_of_its_own() -> None:
    (sheet,) = sheets({"test/ece": 0.1, "test/attacked_ece": 0.3, "test/attacked_classwise_ece/class/a": 0.2}, [])
    assert [row.name for row in sheet.scores().rows] == ["ece"]
    assert sheet.attacked().title == "test, attacked"
    assert [row.name for row in sheet.attacked().rows] == ["attacked_ece"]
    assert not TEST.attacked().rows


def test_what_has_tables_of_its_own_is_no_row() -> None:
    apart = {
        "test/honesty/pgd-20/transfer": 0.1,
        "test/attack_passes/pgd-20/forward": 20.0,
        "test/attack_passes/autoattack/apgd-ce/forward": 100.0,
        "test/power_law/pgd-20/exponent": 1.0,
        "test/robust_accuracy/autoattack/apgd-ce": 0.5,
    }
    (sheet,) = sheets({**apart, "test/robust_accuracy/autoattack": 0.4, "test/robust_ece/autoattack": 0.2}, [])
    assert [row.name for row in sheet.scores().rows] == ["robust_accuracy/autoattack", "robust_ece/autoattack"]
