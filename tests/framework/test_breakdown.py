import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.breakdown import Breakdown, breakdowns
from poise.data.dataset import Arrays
from small_runs import rows, splits

parts = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=40)


@given(parts)
def test_shares_and_the_worst_are_those_of_a_loop(examples: list[tuple[int, bool]]) -> None:
    member = torch.tensor([part for part, _ in examples])
    right = torch.tensor([whether for _, whether in examples])
    found = Breakdown("group", ("a", "b", "c", "d"), member)
    of_part = {name: [w for p, w in examples if p == place] for place, name in enumerate(found.names)}
    expected = {name: sum(found) / len(found) for name, found in of_part.items() if found}
    assert found.counts == tuple(len(whether) for whether in of_part.values())
    assert [math.isnan(share) for share in found.shares(right)] == [name not in expected for name in found.names]
    metrics = found.metrics("test/scaled", "robust_accuracy/pgd-20", right)
    assert metrics.pop("test/scaled/worst_group_robust_accuracy/pgd-20") == pytest.approx(min(expected.values()))
    prefix = "test/scaled/robust_accuracy/pgd-20/group"
    assert metrics == {f"{prefix}/{name}": pytest.approx(share) for name, share in expected.items()}


def test_bars_are_of_the_same_shares() -> None:
    found = Breakdown("class", ("a", "b"), torch.tensor([0, 0, 1]))
    drawing = found.drawing("test", clean=torch.tensor([True, False, True]))
    assert (drawing.names, drawing.counts) == (("a", "b"), (2, 1))
    (measure,) = drawing.measures
    assert (measure.name, measure.of_parts, measure.overall) == ("clean", (0.5, 1.0), pytest.approx(2 / 3))


def test_examples_are_told_apart_by_class_and_where_there_are_groups_by_group() -> None:
    data = splits()
    assert [(found.kind, found.names) for found in breakdowns(data, data.test)] == [
        ("class", ("a", "b", "c")),
        ("group", ("k", "l")),
    ]
    assert [found.kind for found in breakdowns(data, Arrays(data.test.x, data.test.label))] == ["class"]


def test_a_shift_may_have_groups_that_no_other_split_has() -> None:
    shift = rows(6, 5)
    data = splits()
    object.__setattr__(data, "group_names", ())
    beyond = Arrays(shift.x, shift.label, torch.tensor([0, 1, 4, 4, 4, 0]))
    _, found = breakdowns(data, beyond)
    assert (found.names, found.counts) == (("0", "1", "2", "3", "4"), (2, 1, 0, 0, 3))
