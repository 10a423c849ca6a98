from collections.abc import Iterator
from pathlib import Path

import pytest

from poise import registry
from poise.config import Config, ConfigErrors, Entry, ModelConfig, compose, from_yaml, parse, to_yaml
from poise.registry import Kind, reader

PGD = {"steps": 10, "step_size": None, "start": "uniform", "mode": "eval"}


def test_nothing_given_is_plain_training_on_digits() -> None:
    config = parse([])
    assert config == compose() == compose({})
    assert config.recipe == {}
    assert (config.data.name, config.model.name) == ("digits", "small_cnn")
    assert (config.optimizer.name, config.schedule.name) == ("sgd", "cosine")
    assert list(config.calibration) == [
        name for name, r in registry.records("calibrator").items() if r.attributes.get("default")
    ]
    assert list(config.evaluation) == ["clean", "adversarial"]
    assert (config.seed, config.run_dir, config.selection, config.strategy) == (0, None, None, "auto")
    assert config.threat.eps == 8 / 255


def test_defaults_are_the_constructors() -> None:
    for group in ("data", "model", "optimizer", "schedule"):
        entry = getattr(parse([]), group)
        record = registry.find(group, entry.name)
        assert entry.params == {p.name: p.default for p in record.parameters}


def test_recipes_are_ordered_and_addressed() -> None:
    config = parse(["recipe=trades,mixup", "recipe.trades.beta=3", "recipe.mixup.alpha=1/4"])
    assert list(config.recipe) == ["trades", "pgd", "mixup"]
    assert config.recipe["trades"] == Entry("trades", {"beta": 3.0, "label_on": "clean"})
    assert config.recipe["mixup"].params == {"alpha": 0.25}


def test_a_brought_member_is_addressed_as_if_written() -> None:
    config = parse(["recipe=trades", "recipe.pgd.steps=20"])
    assert config.recipe["pgd"] == Entry("pgd", PGD | {"start": "normal", "steps": 20})
    assert config.recipe["pgd"].brought_by == "trades"
    assert parse(["recipe=trades", "recipe.pgd.start=none"]).recipe["pgd"].params["start"] == "none"


def test_a_written_member_is_not_brought() -> None:
    config = parse(["recipe=pgd,trades"])
    assert list(config.recipe) == ["pgd", "trades"]
    assert config.recipe["pgd"] == Entry("pgd", PGD)


def test_nothing_is_brought_for_a_hook_that_has_an_owner() -> None:
    assert list(parse(["recipe=trades,pgd@attacker"]).recipe) == ["trades", "attacker"]
    with pytest.raises(ConfigErrors, match=r"recipe.pgd.steps: 'pgd' is not in recipe=trades,attacker. trades brings"):
        parse(["recipe=trades,pgd@attacker", "recipe.pgd.steps=3"])


def test_aliases_tell_two_of_one_name_apart() -> None:
    config = parse(["recipe=mixup@a,mixup@b", "recipe.b.alpha=3"])
    assert config.recipe == {"a": Entry("mixup", {"alpha": 1.0}), "b": Entry("mixup", {"alpha": 3.0})}


def test_a_class_of_ones_own_is_addressed_by_its_name() -> None:
    name = "poise_recipes.mixup.mixup:Mixup"
    config = parse([f"recipe={name},{name}@again", "recipe.Mixup.alpha=2"])
    assert config.recipe == {"Mixup": Entry(name, {"alpha": 2.0}), "again": Entry(name, {"alpha": 1.0})}


def test_calibrators() -> None:
    assert parse(["calibration=none"]).calibration == {}
    named = parse(["recipe=mixup,temperature_scaling", "calibration.temperature_scaling.lowest=0.1"])
    assert list(named.recipe) == ["mixup"]
    assert named.calibration["temperature_scaling"].params["lowest"] == 0.1
    aliased = parse(["recipe=mixup,temperature_scaling@b", "calibration=temperature_scaling@a"])
    assert list(aliased.calibration) == ["a", "b"]


def test_other_groups() -> None:
    said = ["data=colored_digits", "data.correlation=0.5", "model=mlp", "model.depth=3", "optimizer=adamw"]
    said += ["schedule=multi_step", "schedule.milestones=0.3,0.6", "threat=l2", "trainer.max_steps=7"]
    said += ["trainer.gradient_clip=none", "strategy=deepspeed_zero2", "evaluation.strong.steps=50"]
    said += ["evaluation=adversarial@strong,adversarial", "tables.errors=a=b,c", "run_dir=runs/x"]
    config = parse([*said, "resume=never", "selection=nll"])
    assert config.data.params["correlation"] == 0.5
    assert config.model == ModelConfig("mlp", {"width": 128, "depth": 3})
    assert config.optimizer.params["lr"] == 1e-3
    assert config.schedule.params["milestones"] == [0.3, 0.6]
    assert (config.threat.name, config.threat.eps) == ("l2", 128 / 255)
    assert (config.trainer.max_steps, config.trainer.gradient_clip) == (7, None)
    assert config.evaluation["strong"].params["steps"] == 50
    assert config.tables == {"errors": "a=b,c"}
    assert (config.run_dir, config.resume, config.selection) == ("runs/x", "never", "nll")


def test_python_says_the_same_in_its_own_types(tmp_path: Path) -> None:
    given = {
        "recipe": {"name": ["trades", "mixup"], "trades": {"beta": 3}},
        "data": {"name": "digits", "val": 0.2},
        "model": "mlp",
        "trainer": {"max_epochs": 2, "progress": False, "gradient_clip": None},
        "trainer.batch_size": 64,
        "threat": {"eps": "4/255"},
        "run_dir": tmp_path,
    }
    said = ["recipe=trades,mixup", "recipe.trades.beta=3", "data.val=0.2", "model=mlp", "trainer.max_epochs=2"]
    said += ["trainer.progress=false", "trainer.batch_size=64", "threat.eps=4/255", f"run_dir={tmp_path}"]
    assert compose(given) == parse(said)
    assert compose({"recipe": ["trades"]}) == compose({"recipe": "trades"}) == parse(["recipe=trades"])
    assert compose({"recipe": []}) == compose({"recipe": {}}) == parse(["recipe=plain"]) == parse([])


def test_the_command_line_lies_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(parse(["recipe=trades", "recipe.trades.beta=2", "optimizer.lr=0.5", "model.width=8"])))
    assert parse([f"config={file}"]).recipe["trades"].params["beta"] == 2.0
    over = parse([f"config={file}", "recipe=mixup", "optimizer=adamw", "model=small_cnn", "seed=4"])
    assert list(over.recipe) == ["mixup"]
    assert (over.optimizer.params["lr"], over.model.params["width"], over.seed) == (1e-3, 8, 4)
    kept = parse([f"config={file}", "recipe=mixup,trades", "recipe.pgd.steps=3"])
    assert list(kept.recipe) == ["mixup", "trades", "pgd"]
    assert kept.recipe["trades"].params["beta"] == 2.0
    assert kept.recipe["pgd"].params["start"] == "normal"
    assert parse([f"config={file}", "recipe=mixup@trades"]).recipe["trades"].params == {"alpha": 1.0}
    assert parse([f"config={file}", "recipe=plain"]).recipe == {}


def test_the_layer_above_decides_on_calibrators(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("recipe: mixup,temperature_scaling@mine\n")
    assert list(parse([f"config={file}"]).calibration) == ["mine"]
    assert parse([f"config={file}", "calibration=none"]).calibration == {}
    file.write_text(to_yaml(parse(["calibration=none"])))
    assert parse([f"config={file}"]).calibration == {}
    assert list(parse([f"config={file}", "recipe=mixup,temperature_scaling"]).calibration) == ["temperature_scaling"]


def test_python_may_name_a_file_too(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("trainer: {max_epochs: 3}\nseed: 010\n")
    config: Config = compose({"config": file, "trainer": {"batch_size": 32}})
    assert (config.trainer.max_epochs, config.trainer.batch_size, config.seed) == (3, 32, 10)
    assert config == from_yaml("trainer: {max_epochs: 3, batch_size: 32}\nseed: 10")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A wrapper, and data whose range is not known before they are read."""
    package = tmp_path / "own_data"
    (package / "all").mkdir(parents=True)
    (package / "base.py").write_text("class Wrapper: ...\n")
    (package / "all" / "long_tail.py").write_text(
        "from own_data.base import Wrapper\n"
        "class LongTail(Wrapper):\n    def __init__(self, factor: float = 10) -> None: ...\n"
    )
    (package / "source.py").write_text(
        "from poise.data.source import DataSource\nclass Table(DataSource):\n    valid_range = None\n"
    )
    kind = Kind("wrapper", "wrappers", "own.wrappers", root="own_data.base:Wrapper", folder="own_data.all")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(registry.KINDS, "wrapper", kind)
    monkeypatch.setattr(reader, "ROOTS", reader.ROOTS | {kind.root})
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


@pytest.mark.usefixtures("own")
def test_wrappers_follow_the_source() -> None:
    config = parse(["data=digits,long_tail,long_tail@again", "data.val=0.2", "data.again.factor=100"])
    assert (config.data.name, config.data.params["val"]) == ("digits", 0.2)
    assert config.data.wrappers == {
        "long_tail": Entry("long_tail", {"factor": 10.0}),
        "again": Entry("long_tail", {"factor": 100.0}),
    }
    assert from_yaml(to_yaml(config)) == config


@pytest.mark.usefixtures("own")
def test_data_of_unknown_range_allow_any_eps() -> None:
    config = parse(["data=own_data.source:Table", "threat.eps=8"])
    assert (config.data.name, config.threat.eps) == ("own_data.source:Table", 8.0)
