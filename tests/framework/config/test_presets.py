import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from poise import registry
from poise.config import ConfigErrors, compose, from_yaml, parse, presets, to_yaml
from poise.config.schema import OptimizerConfig

SOURCE = re.compile(r".*\S  # (repository|paper): \S.*")

Write = Callable[[str, str], None]


def mistakes(*arguments: str) -> tuple[str, ...]:
    with pytest.raises(ConfigErrors) as raised:
        parse(arguments)
    return raised.value.mistakes


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_a_config(name: str) -> None:
    config = parse([f"recipe={name}"])
    assert config.recipe
    assert from_yaml(to_yaml(config)) == config
    assert name not in to_yaml(config)
    assert {"data", "model"} <= yaml.safe_load(presets.text(name)).keys()  # else it trains the default's
    assert len(presets.about(name)) > 20
    assert "\n" not in presets.about(name)


@pytest.mark.parametrize("name", presets.names())
def test_every_value_carries_its_source(name: str) -> None:
    text = presets.text(name)
    lines = text.splitlines()
    found = [lines[line] for line in value_lines(yaml.compose(text))]
    assert len(found) > 10
    assert [line for line in found if not SOURCE.fullmatch(line)] == []


def value_lines(node: yaml.Node) -> Iterator[int]:
    if isinstance(node, yaml.MappingNode):
        for _, value in node.value:
            yield from value_lines(value)
    else:
        yield node.start_mark.line


@pytest.mark.parametrize("name", presets.names())
def test_a_name_is_a_preset_or_a_recipe(name: str) -> None:
    assert all(name not in registry.records(kind) for kind in registry.KINDS)


def test_the_published_settings() -> None:
    trades = parse(["recipe=trades_cifar10"])
    assert list(trades.recipe) == ["trades", "pgd"]
    assert trades.recipe["trades"].params == {"beta": 6.0, "label_on": "clean"}
    assert trades.recipe["pgd"].params == {"steps": 10, "step_size": 0.007, "start": "normal", "mode": "eval"}
    assert (trades.threat.name, trades.threat.eps) == ("linf", 0.031)
    assert (trades.optimizer.params["lr"], trades.optimizer.params["weight_decay"]) == (0.1, 2e-4)
    assert (trades.trainer.max_epochs, trades.trainer.batch_size) == (76, 128)
    assert (trades.model.name, trades.model.params) == ("wrn_34_10", {"dropout": 0.0, "mean": [0.0], "std": [1.0]})

    awp = parse(["recipe=trades_awp_cifar10"])
    assert list(awp.recipe) == ["trades", "pgd", "awp"]
    assert awp.recipe["awp"].params == {"gamma": 0.005, "warmup": 9 / 200}
    assert (awp.threat.eps, awp.recipe["pgd"].params["step_size"]) == (8 / 255, 2 / 255)
    assert (awp.optimizer.params["weight_decay"], awp.trainer.max_epochs) == (5e-4, 200)
    assert awp.model == trades.model

    mnist = parse(["recipe=pgd_at_mnist"])
    assert mnist.recipe["pgd"].params == {"steps": 40, "step_size": 0.01, "start": "uniform", "mode": "eval"}
    assert (mnist.optimizer.name, mnist.optimizer.params["lr"]) == ("adamw", 1e-4)
    assert (mnist.threat.eps, mnist.trainer.max_steps, mnist.trainer.batch_size) == (0.3, 100_000, 50)
    assert mnist.trainer.max_epochs * (55_000 // 50) >= 100_000


def test_the_published_settings_of_losses_and_weights() -> None:
    mart = parse(["recipe=mart_cifar10"])
    assert (list(mart.recipe), mart.recipe["mart"].params) == (["mart", "pgd"], {"beta": 5.0})
    assert (mart.optimizer.params["lr"], mart.optimizer.params["weight_decay"]) == (0.01, 3.5e-3)
    assert (mart.threat.eps, mart.recipe["pgd"].params["step_size"], mart.model.name) == (0.031, 0.007, "resnet18")

    gairat = parse(["recipe=gairat_cifar10"])
    assert gairat.recipe["gairat"].params == {"shift": -1.0, "burn_in": 59 / 120}
    assert (gairat.optimizer.params["weight_decay"], gairat.recipe["pgd"].params["start"]) == (2e-4, "uniform")

    clean, attacked = parse(["recipe=weat_nat_cifar10"]), parse(["recipe=weat_adv_cifar10"])
    assert clean.recipe["trades"].params == {"beta": 6.0, "label_on": "clean"}
    assert attacked.recipe["trades"].params == {"beta": 6.0, "label_on": "attacked"}
    assert clean.schedule == attacked.schedule
    assert clean.schedule.params == {"peak": 0.25, "start": 0.04, "final": 4e-6, "along": "cosine"}

    mnist = parse(["recipe=trades_mnist"])
    assert mnist.recipe["pgd"].params == {"steps": 40, "step_size": 0.01, "start": "normal", "mode": "eval"}
    assert (mnist.recipe["trades"].params["beta"], mnist.threat.eps) == (1.0, 0.3)

    cifar, svhn = parse(["recipe=awp_cifar10"]), parse(["recipe=awp_svhn"])
    assert cifar.recipe["awp"].params == {"gamma": 0.01, "warmup": 0.0}
    assert svhn.recipe["awp"].params == {"gamma": 0.01, "warmup": 5 / 200}
    assert (cifar.recipe["pgd"].params["step_size"], svhn.recipe["pgd"].params["step_size"]) == (2 / 255, 1 / 255)
    assert (cifar.optimizer.params["lr"], svhn.optimizer.params["lr"]) == (0.1, 0.01)


@pytest.mark.parametrize(
    ("name", "epochs", "drops"),
    [
        ("trades_cifar10", 76, {75: 0.1}),
        ("trades_awp_cifar10", 200, {100: 0.1, 150: 0.01}),
        ("trades_mnist", 100, {55: 0.1, 75: 0.01, 90: 0.001}),
        ("mart_cifar10", 120, {75: 0.1, 90: 0.01, 100: 0.001}),
        ("gairat_cifar10", 120, {60: 0.1, 90: 0.01}),
    ],
)
def test_the_learning_rate_drops_with_the_published_epoch(name: str, epochs: int, drops: dict[int, float]) -> None:
    schedule = registry.load(registry.find("schedule", "multi_step"))
    params = parse([f"recipe={name}"]).schedule.params
    steps = 390
    for epoch, factor in drops.items():  # counted from 1, as in the scripts
        first = (epoch - 1) * steps
        assert schedule(first / (epochs * steps), **params) == pytest.approx(factor)
        assert schedule((first - 1) / (epochs * steps), **params) == pytest.approx(10 * factor)


def test_awp_warms_up_for_nine_epochs() -> None:
    warmup = parse(["recipe=trades_awp_cifar10"]).recipe["awp"].params["warmup"]
    assert (9 * 390 - 1) / (200 * 390) < warmup <= (9 * 390) / (200 * 390)


@pytest.mark.parametrize(
    ("name", "member"), [("gaussian_noise_cifar10", "gaussian_noise"), ("smooth_adv_cifar10", "smooth_adv")]
)
def test_what_is_trained_in_noise_is_certified_in_the_same(name: str, member: str) -> None:
    config = parse([f"recipe={name}"])
    assert config.evaluation["certify"].params["sigma"] == config.recipe[member].params["sigma"]
    assert list(parse([f"recipe={name}", "evaluation=clean"]).evaluation) == ["clean"]


def test_the_published_settings_of_smoothing() -> None:
    noise, smooth = parse(["recipe=gaussian_noise_cifar10"]), parse(["recipe=smooth_adv_cifar10"])
    assert (noise.trainer.max_epochs, noise.trainer.batch_size) == (90, 400)
    assert list(smooth.recipe) == ["smooth_adv", "pgd"]
    assert noise.model == smooth.model
    assert noise.model.name == "wide_resnet"
    assert (noise.model.params["depth"], noise.model.params["width"]) == (6 * 18 + 4, 1)  # the blocks of a ResNet-110
    pgd = smooth.recipe["pgd"].params
    assert (smooth.threat.name, smooth.threat.eps) == ("l2", 64 / 256)
    assert pgd == {"steps": 10, "step_size": pytest.approx(2 * smooth.threat.eps / 10), "start": "none", "mode": "eval"}
    assert (smooth.trainer.max_epochs, smooth.recipe["smooth_adv"].params["samples"]) == (150, 2)


def test_a_preset_expands_in_its_place() -> None:
    config = parse(["recipe=mixup,trades_awp_cifar10,tiny_ema"])
    assert list(config.recipe) == ["mixup", "trades", "pgd", "awp", "tiny_ema"]
    assert config.threat.eps == 8 / 255


def test_what_is_above_overrides_a_preset(tmp_path: Path) -> None:
    given = ["recipe=trades_cifar10", "recipe.trades.beta=3", "recipe.pgd.steps=20", "optimizer.lr=0.5"]
    config = parse(given)
    assert config.recipe["trades"].params["beta"] == 3.0
    assert config.recipe["pgd"].params["steps"] == 20
    assert (config.optimizer.params["lr"], config.optimizer.params["weight_decay"]) == (0.5, 2e-4)
    assert parse(["recipe=trades_cifar10", "optimizer=adamw"]).optimizer == OptimizerConfig("adamw", adamw_defaults())

    file = tmp_path / "run.yaml"
    file.write_text("trainer: {max_epochs: 5}\nrecipe: {trades: {beta: 2}}\n")
    config = parse(["recipe=trades_cifar10", f"config={file}", "trainer.batch_size=64"])
    assert (config.trainer.max_epochs, config.trainer.batch_size) == (5, 64)
    assert config.recipe["trades"].params["beta"] == 2.0


def adamw_defaults() -> dict[str, object]:
    return {p.name: p.default for p in registry.find("optimizer", "adamw").parameters}


def test_a_preset_may_be_named_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("recipe: [trades_cifar10, mixup]\nrecipe.trades.beta: 2\n")
    said = parse(["recipe=trades_cifar10,mixup", "recipe.trades.beta=2"])
    assert parse([f"config={file}"]) == said
    assert compose({"recipe": {"name": ["trades_cifar10", "mixup"], "trades": {"beta": 2}}}) == said
    assert from_yaml(file.read_text()) == said


def test_a_list_above_names_other_recipes_and_the_preset_is_out(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("recipe: trades_cifar10\n")
    assert parse([f"config={file}", "recipe=mixup"]) == parse(["recipe=mixup"])
    file.write_text("recipe: {name: mixup@trades, trades: {alpha: 3}}\n")
    assert parse([f"config={file}", "recipe=trades_cifar10"]) == parse(["recipe=trades_cifar10"])


def test_an_attack_of_ones_own_takes_the_place_of_the_presets() -> None:
    config = parse(["recipe=trades_cifar10,pgd@attacker", "recipe.attacker.steps=3"])
    assert list(config.recipe) == ["trades", "attacker"]
    assert config.recipe["attacker"].params["start"] == "uniform"


def test_a_preset_of_a_cluster_adds_no_recipe(preset: Write) -> None:
    preset("big_cluster", "# A cluster.\nslurm: {nodes: 2, gpus: 4, time: 30:00}\ntracking: {name: none}\n")
    config = parse(["recipe=big_cluster", "trainer.batch_size=256"])
    assert (config.recipe, config.slurm.time, config.trainer.devices) == ({}, "30:00", 8)
    assert list(parse(["recipe=big_cluster,trades"]).recipe) == ["trades", "pgd"]
    both = parse(["recipe=trades_cifar10,big_cluster"])
    assert (both.threat.eps, both.slurm.nodes) == (0.031, 2)


def test_presets_may_name_calibrators_and_aliases(preset: Write) -> None:
    preset(
        "calibrated",
        "recipe: [mixup@a, mixup@b, temperature_scaling@t]\nrecipe.b.alpha: 2\ncalibration.t.lowest: 0.1\n",
    )
    config = parse(["recipe=calibrated"])
    assert [entry.params["alpha"] for entry in config.recipe.values()] == [1.0, 2.0]
    assert config.calibration["t"].params["lowest"] == 0.1


def test_presets_that_agree_stack(preset: Write) -> None:
    preset("one", "recipe: mixup\noptimizer: {name: sgd, lr: 1e-1}\n")
    preset("two", "recipe: awp\noptimizer: {name: sgd, lr: 0.1, momentum: 0.5}\n")
    config = parse(["recipe=one,two"])
    assert list(config.recipe) == ["mixup", "awp"]
    assert (config.optimizer.params["lr"], config.optimizer.params["momentum"]) == (0.1, 0.5)
    assert parse(["recipe=two,one"]).optimizer == config.optimizer


def test_presets_that_differ_are_a_mistake_naming_both_and_the_key() -> None:
    found = mistakes("recipe=trades_cifar10,pgd_at_mnist")
    line = "threat.eps: two presets differ, 0.031 (in preset trades_cifar10) and 0.3 (in preset pgd_at_mnist)."
    assert any(mistake.startswith(line) for mistake in found)
    assert any(mistake.startswith("optimizer.name: two presets differ, sgd") for mistake in found)
    assert not any("threat.name" in mistake for mistake in found)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("recipe: mixup\ntrainer: {max_epoch: 3}", "trainer.max_epoch (in preset own): trainer has no parameter"),
        ("recipe: mixup\nlr: 3", "There is nothing called 'lr' to set (in preset own). Did you mean 'optimizer.lr'?"),
        ("recipe: {name: mixup, mixup: {alhpa: 3}}", "recipe.mixup.alhpa (in preset own): mixup has no parameter"),
        ("recipe: {name: mixup, mxiup: {alpha: 3}}", "recipe.mxiup.alpha (in preset own): 'mxiup' is not in its"),
        (
            "recipe: mixup\ncalibration: {tmp: {lowest: 1}}",
            "calibration.tmp.lowest (in preset own): 'tmp' is not in its",
        ),
        ("recipe: [mixup, trades_cifar10]", "recipe=trades_cifar10 (in preset own): presets do not nest."),
        ("recipe: mixup\nrun_dir: runs/x", "run_dir (in preset own): this is of one run, and nothing for a preset."),
        ("recipe: mixup\nconfig: x.yaml", "config (in preset own): this is of one run"),
        ("recipe: mixup\noptimizer: {lr: 1}", "optimizer.lr (in preset own): say there which optimizer this is for"),
        ("recipe: mixup\ntrainer: {max_epochs: ten}", "trainer.max_epochs=ten (in preset own) is not an integer."),
        ("recipe: mixup\nseed: 1\nseed: 2", "preset own: line 3: 'seed' is given twice."),
        (
            "recipe: mixpu",
            "recipe=mixpu: there is no recipe, calibrator or preset called 'mixpu'. Did you mean 'mixup'?",
        ),
    ],
)
def test_mistakes_in_a_preset_name_it(text: str, line: str, preset: Write) -> None:
    preset("own", text)
    assert any(found.startswith(line) for found in mistakes("recipe=own"))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["recipe=trades_cifar10@x"], "recipe=trades_cifar10@x: a preset has no alias."),
        (["recipe=trades_cifr10"], "called 'trades_cifr10'. Did you mean 'trades_cifar10'?"),
        (["recipe=trades_cifar10,trades"], "two are called 'trades'"),
        (["recipe=trades_cifar10", "recipe.mixup.alpha=1"], "Add it: recipe=trades_cifar10,mixup"),
    ],
)
def test_mistakes_with_presets(arguments: list[str], line: str) -> None:
    assert any(line in found for found in mistakes(*arguments))


def test_a_recipe_of_a_presets_name_is_refused(preset: Write) -> None:
    preset("tiny_ema", "recipe: mixup\n")
    other = registry.find("recipe", "tiny_ema").qualified
    assert f"recipe=tiny_ema: 'tiny_ema' is a preset and {other} too. Rename that recipe." in mistakes(
        "recipe=tiny_ema"
    )
