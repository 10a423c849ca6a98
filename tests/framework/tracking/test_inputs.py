"""What MLflow is told of a run's data."""

import json

import torch

from poise.config import parse
from poise.data.dataset import Arrays
from poise.data.sources.digits import Digits
from poise.given import Objects
from poise.parts import load_splits
from poise.tracking.inputs import digest, inputs


def arrays(rows: int = 20, group: bool = False) -> Arrays:
    x = torch.arange(rows * 4, dtype=torch.float32).reshape(rows, 4)
    return Arrays(x, torch.arange(rows) % 2, torch.zeros(rows, dtype=torch.int64) if group else None)


def test_a_digest_follows_from_inputs_labels_and_groups() -> None:
    first, found = arrays(), [digest(arrays(group=True)), digest(arrays(19))]
    assert digest(arrays()) == digest(first)
    for changed in (
        Arrays(first.x.flip(0), first.label),
        Arrays(first.x, 1 - first.label),
        Arrays(first.x.double(), first.label),
    ):
        found.append(digest(changed))
    assert len({digest(first), *found}) == 6
    assert all(len(text) == 8 for text in found)


def test_of_much_data_some_rows_are_read() -> None:
    row = sum(value.nbytes for value in arrays().fetch(torch.tensor([0])).values())
    taken: list[int] = []

    class Counted(Arrays):
        def fetch(self, indices: torch.Tensor) -> dict[str, torch.Tensor]:
            taken.append(len(indices))
            return super().fetch(indices)

    digest(Counted(arrays().x, arrays().label), most=5 * row)
    assert taken == [1, 5]


def test_training_and_test_data_are_named_as_on_the_command_line() -> None:
    config = parse(["data=digits,subset", "data.subset.fraction=0.5", "data.val=0.2"])
    splits = Digits().load(0)
    training, evaluation = inputs(config, splits, ("train", "test"))
    assert (training["context"], evaluation["context"]) == ("training", "evaluation")
    assert training["name"] == evaluation["name"] == "digits,subset"
    assert training["digest"] == digest(splits.train) != evaluation["digest"] == digest(splits.test)
    assert json.loads(training["source"])["val"] == 0.2
    features = json.loads(json.loads(training["schema"])["mlflow_tensorspec"]["features"])
    assert features == [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 1, 8, 8]}}]
    profile = json.loads(evaluation["profile"])
    assert profile["num_rows"] == len(splits.test) == sum(profile["classes"].values())


def test_shifts_and_ood_sets_stand_beside_test() -> None:
    config = parse(["data=digits,corruptions,ood", "data.corruptions.kinds=fog", "data.ood.sources=colored_digits"])
    splits = load_splits(config, Objects())
    training, _, shift, ood = inputs(config, splits, ("train", "test"))
    assert [found["name"].partition("/")[2] for found in (training, shift, ood)] == [
        "",
        "shifts.fog-3",
        "ood.colored_digits",
    ]
    assert shift["digest"] == digest(splits.shifts["fog-3"])
    assert (
        json.loads(shift["profile"])["classes"]
        == json.loads(inputs(config, splits, ("test",))[0]["profile"])["classes"]
    )
    assert "classes" not in json.loads(ood["profile"])
    assert json.loads(training["profile"])["splits"]["ood.colored_digits"] == len(splits.ood["colored_digits"])
    assert len(inputs(config, splits, ("train",))) == 1
