from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise import registry
from poise.build import Built
from poise.config import parse
from poise.data.wrapper import Wrapper
from poise.data.wrappers.corruptions import Corruptions
from poise.data.wrappers.label_noise import LabelNoise
from poise.data.wrappers.ood import Ood
from poise.data.wrappers.subset import Subset
from poise.errors import UserError
from poise.given import Objects
from small_runs import splits


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 0.95), st.integers(0, 2**32 - 1))
def test_a_subset_keeps_classes_alike_and_other_splits_whole(fraction: float, seed: int) -> None:
    data = splits()
    made = Subset(fraction).wrap(data, seed)
    before, after = (torch.bincount(s.train.label, minlength=3) for s in (data, made))
    assert after.tolist() == [round(fraction * int(count)) for count in before]
    assert (made.val, made.calibration, made.test) == (data.val, data.calibration, data.test)
    again = Subset(fraction).wrap(data, seed)
    assert torch.equal(made.train.x, again.train.x)
    assert torch.equal(made.train.group, again.train.group)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, 0.01])
def test_a_subset_of_nothing_is_refused(fraction: float) -> None:
    with pytest.raises(UserError):
        Subset(fraction).wrap(splits(), 0)


def built(*arguments: str) -> Built:
    return Built(parse(arguments), Objects())


def test_wrappers_act_one_after_the_other_and_draw_by_their_alias() -> None:
    whole = built().splits.train
    once = built("data=digits,subset", "data.subset.fraction=0.5").splits.train
    assert len(once) == pytest.approx(len(whole) / 2, abs=10)
    both = ("data.a.fraction=0.5", "data.b.fraction=0.5")
    assert len(built("data=digits,subset@a,subset@b", *both).splits.train) == pytest.approx(len(whole) / 4, abs=20)
    other = built("data=digits,subset@a", "data.a.fraction=0.5").splits.train
    assert len(other) == len(once)
    assert not torch.equal(other.x, once.x)


KINDS = {
    "poise.data": ("blobs", "class Blobs(DataSource):\n    def load(self, seed: int) -> object:\n        return 3\n"),
    "poise.wrappers": ("turn", "class Turn(Wrapper):\n    def __init__(self, degrees: float = 90.0) -> None: ...\n"),
    "poise.models": ("tiny", "def tiny(num_classes: int, width: int = 3) -> object: ...\n"),
    "poise.optimizers": ("lion", "def lion(parameters: object, lr: float = 1e-4) -> object: ...\n"),
    "poise.schedules": ("sawtooth", "def sawtooth(progress: float, teeth: int = 3) -> float: ...\n"),
    "poise.evaluators": (
        "moved",
        "class Moved(Evaluator):\n    def __init__(self, far: int = 1) -> None: ...\n",
    ),
}


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of somebody else's with one thing of each kind, installed beside poise."""
    imports = (
        "from poise.data.source import DataSource\nfrom poise.data.wrapper import Wrapper\n"
        "from poise.evaluator import Evaluator\n\n\n"
    )
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    groups = []
    for group, (name, source) in KINDS.items():
        package = tmp_path / "stranger" / group.rpartition(".")[2]
        package.mkdir(parents=True)
        (package / f"{name}.py").write_text(imports + source)
        groups.append(f"[{group}]\nstranger = stranger.{package.name}\n")
    (info / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(tmp_path)
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


@pytest.mark.usefixtures("stranger")
def test_every_kind_is_found_in_a_strangers_package() -> None:
    said = ["data=blobs,turn", "data.turn.degrees=45", "model=tiny", "optimizer=lion", "schedule=sawtooth"]
    config = parse([*said, "schedule.teeth=5", "evaluation=moved"])
    assert config.data.wrappers["turn"].params == {"degrees": 45.0}
    assert config.model.params == {"width": 3}
    assert (config.optimizer.params, config.schedule.params) == ({"lr": 1e-4}, {"teeth": 5})
    assert config.evaluation["moved"].params == {"far": 1}
    with pytest.raises(UserError, match=r"the data blobs gives a int: it has to give poise\.data\.dataset\.Splits"):
        Built(config, Objects())


@pytest.mark.parametrize(
    ("wrapper", "said"),
    [
        (Corruptions(kinds=()), "corruptions.kinds"),
        (Corruptions(severity=()), "corruptions.severity"),
        (Ood(sources=()), "ood.sources"),
        (LabelNoise(rate=0.1, splits=()), "label_noise.splits"),
    ],
)
def test_a_wrapper_that_would_do_nothing_is_refused(wrapper: Wrapper, said: str) -> None:
    with pytest.raises(UserError, match=f"{said} is empty: name one or more"):
        wrapper.wrap(splits(), 0)
