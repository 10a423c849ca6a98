"""Splits without contents are as large as those that they stand in for."""

import pytest

from poise import registry
from poise.config import compose
from poise.data.stand_in import sizes_of, stand_in
from poise.errors import UserError
from poise.parts import as_wrapped, make

PUBLISHED = [name for name, record in registry.records("data").items() if record.attributes.get("published")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_those_of_the_docstring(name: str) -> None:
    config = compose({"data": {"name": name, **({"path": "nowhere"} if name == "imagenet" else {})}}, checks=[])
    source = make("data", config.data)
    splits = source.stand_in()
    classes, train, test = source.published
    assert sum(len(splits.main[part]) for part in ("train", "val", "calibration")) == train
    assert (len(splits.test), splits.num_classes) == (test, classes)
    told = registry.find("data", name).doc
    assert name == "imagenet" or (f"{train} " in told and str(test) in told)
    assert splits.train.fetch(splits.train.label[:2])["x"].shape == (2, *splits.input_shape)


def test_wrappers_work_on_what_has_no_contents() -> None:
    config = compose({"data": "cifar10,subset,long_tail", "data.subset.fraction": 0.5, "data.long_tail.factor": 10})
    splits = as_wrapped(config, make("data", config.data).stand_in())
    assert 1000 < len(splits.train) < 20_000


def test_groups_and_their_lack() -> None:
    sizes = sizes_of(train=100, test=10, val=0.1, calibration=0.2)
    with_groups, without = (stand_in((3, 4, 4), 2, sizes, groups) for groups in (4, 0))
    assert (with_groups.num_groups, without.num_groups) == (4, 0)
    assert [len(part) for part in without.main.values()] == [70, 10, 20, 10]
    assert with_groups.train.group is not None
    assert set(with_groups.train.group.tolist()) == {0, 1, 2, 3}


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(UserError, match="every split needs examples"):
        stand_in((3, 4, 4), 2, sizes_of(train=4, test=10, val=0.1, calibration=0.1))
