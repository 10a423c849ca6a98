from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from poise.config import compose, from_yaml, parse, to_mapping, to_yaml
from poise.config.errors import ConfigErrors
from poise.errors import UserError

DOLLARS = st.text(alphabet="$${}\\a.'\"# ", max_size=12)


def mistakes(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigErrors) as raised:
        from_yaml(text, "run.yaml")
    return raised.value.mistakes


def test_a_file_refers_to_the_config_above_and_below_it(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(
        "recipe: {name: 'trades,mixup', trades: {beta: '${recipe.mixup.alpha}'}}\n"
        "run_dir: runs/${recipe.name}-${seed}\noptimizer.lr: ${threat.eps}\n"
    )
    config = parse([f"config={file}", "seed=4", "recipe.mixup.alpha=2"])
    assert config.run_dir == "runs/trades,pgd,mixup-4"
    assert config.optimizer.params["lr"] == 8 / 255
    assert config.recipe["trades"].params["beta"] == 2.0
    assert "${" not in to_yaml(config)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("run_dir: ${data}/${model}", "run_dir", "digits/small_cnn"),
        ("run_dir: ${trainer.progress}-${trainer.block}", "run_dir", "true-none"),
        ("trainer: {block: '${trainer.max_steps}', max_epochs: '${seed}'}\nseed: 3", "trainer.max_epochs", 3),
        ("optimizer.lr: ${threat.eps}/2\nthreat.eps: 0.5", "optimizer.lr", 0.25),
        ("schedule: {name: multi_step, milestones: ['${data.val}', 0.5]}", "schedule.milestones", [0.1, 0.5]),
        ("tables: {a: '${tables.b}c', b: '${tables.d}b', d: d}", "tables.a", "dbc"),
        ("tables: {a: '$${seed}', b: '${tables.a}', c: '$$${x', d: $5, e: '{a}$'}", "tables.b", "${seed}"),
        ("run_dir: a${slurm.time}\nslurm.time: 30:00", "run_dir", "a30:00"),
        ("slurm: {gpus: '${seed}'}\nseed: 2\nrun_dir: on-${trainer.devices}", "run_dir", "on-2"),
        (
            "evaluation: {adversarial: {steps: '${recipe.pgd.steps}'}}\nrecipe: trades",
            "evaluation.adversarial.steps",
            10,
        ),
    ],
)
def test_what_stands_for_what(text: str, path: str, value: Any) -> None:
    found: Any = to_mapping(from_yaml(text))
    for part in path.split("."):
        found = found[part]
    assert found == value


def test_a_list_stands_for_a_list() -> None:
    config = from_yaml(
        "schedule: {name: multi_step, milestones: '${tables.a}'}\ntables: {a: '0.25,0.5', b: '${schedule.milestones}'}"
    )
    assert config.schedule.params["milestones"] == [0.25, 0.5]
    assert config.tables["b"] == "0.25,0.5"


@pytest.mark.parametrize(
    "inside", ["oc.env:HOME", "env:X", ".seed", "a${seed}", "", " seed ", "seed.", "a-b", "é", "0"]
)
def test_nothing_but_a_path_stands_in_braces(inside: str) -> None:
    (line,) = mistakes(f"run_dir: '${{{inside}}}'")
    assert line == (
        f"run_dir=${{{inside}}} (in run.yaml): between ${{ and }} stands a path of the config, such as threat.eps, and "
        "nothing else. $${ is a ${ that stands for itself."
    )


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("run_dir: ${trainer.max_epoch}", ["this config has no trainer.max_epoch. Did you mean 'trainer.max_epochs'?"]),
        ("run_dir: ${trainer}", ["trainer is a group. Name one of its values, such as trainer.max_epochs."]),
        ("recipe: ${run_dir}\nmodel: a${seed}", ["a name is written out", "a name is written out"]),
        ("run_dir: ${run_dir}", ["run_dir=${run_dir} (in run.yaml): leads back to itself."]),
        ("tables: {a: '${tables.b}', b: '${tables.a}'}", ["leads back to itself", "leads back to itself"]),
        ("seed: ${optimizer.lr}", ["seed=0.1 (in run.yaml) is not an integer."]),
        ("seed: ${", ["between ${ and } stands a path"]),
        ("data: npz\ndata.path: ${nowhere}", ["this config has no nowhere."]),
        ("foo: ${seed}", ["There is nothing called 'foo' to set (in run.yaml)."]),
    ],
)
def test_mistakes(text: str, lines: list[str]) -> None:
    found = mistakes(text)
    assert len(found) == len(lines)
    for line, part in zip(found, lines, strict=True):
        assert part in line


def test_a_preset_refers_to_what_is_above_it(preset: Callable[[str, str], None]) -> None:
    preset("own", "recipe: trades\nrecipe.pgd.step_size: ${threat.eps}/4\nthreat: {name: linf, eps: 0.5}\n")
    assert parse(["recipe=own"]).recipe["pgd"].params["step_size"] == 0.125
    assert parse(["recipe=own", "threat.eps=1"]).recipe["pgd"].params["step_size"] == 0.25


def test_a_name_that_is_not_close_is_not_suggested() -> None:
    with pytest.raises(ConfigErrors, match=r"this config has no trainer\.foo\.$"):
        from_yaml("run_dir: ${trainer.foo}")


@settings(max_examples=30, deadline=None)
@given(DOLLARS.filter(lambda text: text not in ("", "none")), DOLLARS.filter(bool))
def test_what_is_typed_stands_as_it_is(folder: Path, run_dir: str, table: str) -> None:
    said = [f"run_dir={run_dir}", f"tables.a={table}"]
    config = parse(said)
    assert config == compose({"run_dir": run_dir, "tables": {"a": table}})
    assert (config.run_dir, config.tables) == (run_dir, {"a": table})
    assert from_yaml(to_yaml(config)) == config
    (folder / "run.yaml").write_text("selection: x${tables.a}${run_dir}\n")
    assert parse([f"config={folder / 'run.yaml'}", *said]).selection == f"x{table}{run_dir}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


def test_omegaconfs_containers_are_taken_resolved_by_omegaconf() -> None:
    values = OmegaConf.create(
        {
            "recipe": {"name": ["trades", "mixup"], "trades": {"beta": "${lr}"}},
            "seed": 3,
            "lr": 0.5,
            "run_dir": "a${seed}",
        }
    )
    lr = values.pop("lr")
    with pytest.raises(UserError, match="OmegaConf cannot resolve the config it was given: .*lr"):
        compose(values)
    values.recipe.trades.beta = "${optimizer.lr}"
    values.optimizer = {"lr": lr}
    config = compose(values)
    assert config == compose(
        {"recipe": {"name": ["trades", "mixup"], "trades.beta": 0.5}, "seed": 3, "run_dir": "a3", "optimizer.lr": 0.5}
    )
    inside = {"recipe": OmegaConf.create(["mixup"]), "trainer": OmegaConf.create({"max_epochs": 2})}
    assert compose(inside) == parse(["recipe=mixup", "trainer.max_epochs=2"])
    with pytest.raises(UserError, match="Missing mandatory value: seed"):
        compose(OmegaConf.create({"seed": "???"}))
