from pathlib import Path
from typing import Any

import pytest

from poise.config import ConfigErrors, compose, from_yaml, parse
from poise.config.compose import CHECKS_OF_A_START


def mistakes(*arguments: str) -> tuple[str, ...]:
    with pytest.raises(ConfigErrors) as raised:
        parse(arguments)
    assert str(raised.value) == "\n".join(raised.value.mistakes)
    assert all(line and "\n" not in line for line in raised.value.mistakes)
    return raised.value.mistakes


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["recipe=trade"],
            "recipe=trade: there is no recipe, calibrator or preset called 'trade'. Did you mean 'trades'?",
        ),
        (["recipe=trades,,mixup"], "recipe=trades,,mixup leaves a name empty: give one, or write recipe=plain."),
        (["recipe="], "recipe= leaves a name empty: give one, or write recipe=plain."),
        (["recipe=plain,mixup"], "recipe=plain,mixup: recipe=plain, alone, is what means none of them."),
        (["recipe=none"], "recipe=none: recipe=plain, alone, is what means none of them."),
        (["calibration=plain"], "calibration=plain: calibration=none, alone, is what means none of them."),
        (["data=digits,subset@val", "data.val.fraction=0.5"], "val is a parameter of digits. Take another alias."),
        (["calibration="], "calibration= leaves a name empty: give one, or write calibration=none."),
        (["data="], "data= leaves a name empty: give one."),
        (["data=digit"], "data=digit: there is no data called 'digit'. Did you mean 'digits'?"),
        (["data=digits,digits"], "data=digits: digits is data: it stands first in data=."),
        (["model=small_cn"], "model=small_cn: there is no model called 'small_cn'. Did you mean 'small_cnn'?"),
        (["evaluation=clena"], "evaluation=clena: there is no evaluator called 'clena'. Did you mean 'clean'?"),
        (["recipe=mixup,mixup"], "two are called 'mixup'. Name one mixup@another_name."),
        (["recipe=mixup@a-b"], "'a-b' cannot be an alias. Use letters, digits and _."),
        (["recipe=mixup@name"], "'name' cannot be an alias"),
        (["recipe.trades.beta=3"], "recipe.trades.beta: 'trades' is not in recipe=plain. Add it: recipe=trades"),
        (["recipe=mixup", "recipe.mixpu.alpha=3"], "'mixpu' is not in recipe=mixup. Did you mean 'mixup'?"),
        (["recipe=trades", "recipe.awp.gamma=3"], "'awp' is not in recipe=trades,pgd. Add it: recipe=trades,awp"),
        (["recipe=trades", "recipe.trades.bta=3"], "trades has no parameter 'bta'. Did you mean 'beta'?"),
        (["recipe=pgd_at", "recipe.pgd_at.x=3"], "pgd_at has no parameter 'x'. It has none."),
        (["recipe=trades", "recipe.trades=3"], "recipe.trades: trades is a member. Set one of its parameters"),
        (
            ["recipe=trades", "recipe.trades.beta=three"],
            "recipe.trades.beta=three is not a number (0.1, 1e-3 or 8/255).",
        ),
        (
            ["recipe=temperature_scaling", "recipe.temperature_scaling.lowest=1"],
            "It is a calibrator: calibration.temperature_scaling.…",
        ),
        (["recipe=temperature_scaling", "calibration=none"], "recipe= names the calibrator temperature_scaling"),
        (
            ["recipe=nowhere.at:All"],
            "nowhere.at:All: there is no module 'nowhere' on PYTHONPATH or in the working directory.",
        ),
        (["recipe=poise.batch:Batch"], "recipe: poise.batch:Batch is not a recipe: it does not derive from Recipe."),
        (["data=npz"], "data.path is missing: npz needs it (a string)."),
        (["data.vla=0.1"], "data.vla: digits has no parameter 'vla'. Did you mean 'val'?"),
        (["model.chekpoint=a"], "model.chekpoint: small_cnn has no parameter 'chekpoint'. Did you mean 'checkpoint'?"),
        (["model.checkpoint="], "model.checkpoint= is empty: give a value, or leave it out."),
        (["optimizer.learning_rate=1"], "optimizer.learning_rate: sgd has no parameter 'learning_rate'."),
        (["lr=1"], "There is nothing called 'lr' to set. Did you mean 'optimizer.lr'?"),
        (["optimzer=sgd"], "There is nothing called 'optimzer' to set. Did you mean 'optimizer'?"),
        (["trainer.max_epoch=1"], "trainer has no parameter 'max_epoch'. Did you mean 'max_epochs'?"),
        (["trainer=3"], "trainer=3: trainer is a group. Set what is in it."),
        (["trainer.max_epochs=ten"], "trainer.max_epochs=ten is not an integer."),
        (["trainer.max_epochs=0"], "trainer.max_epochs=0 has to be 1 or more."),
        (["trainer.gradient_clip=0"], "trainer.gradient_clip=0 has to be above 0."),
        (["trainer.timeout=0.001"], "trainer.timeout=0.001 has to be 1 or more and at most 604800."),
        (["trainer.timeout=1e308"], "trainer.timeout=1e308 has to be 1 or more and at most 604800."),
        (["trainer.timeout=nan"], "trainer.timeout=nan is not a number"),
        (["trainer.progress=True"], "trainer.progress=True is not true or false. Did you mean 'true'?"),
        (["recipe=trades", "recipe.trades.beta=-1"], "recipe.trades.beta=-1 has to be 0 or more."),
        (["recipe=trades", "recipe.pgd.step_size=0"], "recipe.pgd.step_size=0 has to be above 0."),
        (
            ["evaluation=calibration", "evaluation.calibration.bins=100000"],
            "evaluation.calibration.bins=100000 has to be 1 or more and at most 1000.",
        ),
        (
            ["calibration=spline", "calibration.spline.knots=1001"],
            "calibration.spline.knots=1001 has to be 2 or more and at most 1000.",
        ),
        (
            ["schedule=multi_step", "schedule.milestones=0.5,1.5"],
            "schedule.milestones=0.5,1.5 has to be above 0 and at most 1.",
        ),
        (["data.val=1"], "data.val=1 has to be above 0 and below 1."),
        (["evaluation.adversarial.steps=0"], "evaluation.adversarial.steps=0 has to be 1 or more."),
        (["seed=-1"], "seed=-1 has to be 0 or more."),
        (["data=digits,corruptions", "data.corruptions.kinds=fog,fogg"], "contrast or saturate or fog or pixelate"),
        (["data=digits,corruptions", "data.corruptions.kinds=fog,contrats"], ". Did you mean 'contrast'?"),
        (["data=digits,ood", "data.ood.sources=digit"], "data.ood.sources=digit: there is no data called 'digit'."),
        (["seed=1", "seed=2"], "seed is given twice: 1 and 2."),
        (["recipe=mixup", "recipe.name=mixup"], "recipe.name is given twice: mixup and mixup."),
        (
            ["strategy=dpp"],
            "strategy=dpp is not auto or ddp or deepspeed_zero1 or deepspeed_zero2 or deepspeed_zero3 or",
        ),
        (["model.new_head=true"], "model.new_head=true has no effect without model.checkpoint: fresh weights"),
        (["threat=linff"], "threat=linff is not linf or l2 or l1. Did you mean 'linf'?"),
        (["threat.eps=8"], "threat.eps=8 is larger than the whole range 0…1 of the data: eps is in input units."),
        (["threat.eps=-1/255"], "threat.eps=-1/255 has to be 0 or more."),
        (
            ["trainer.devices=16", "strategy=ddp"],
            "batch_size=128 over 16 ranks is 8 a rank, not a multiple of block=16. Fits: 1, 2, 4, 8 ranks; "
            "trainer.batch_size=256; or trainer.block=8 (other draws: another run)",
        ),
        (["--devices", "trainer.max_epochs"], "'--devices' is not of the form path=value"),
        (["=3"], "'=3' is not of the form path=value"),
    ],
)
def test_each_mistake_has_its_line(arguments: list[str], line: str) -> None:
    assert any(line in found for found in mistakes(*arguments))


@pytest.mark.parametrize("word", ["null", "None", "~", "nil"])
@pytest.mark.parametrize("path", ["threat.eps", "trainer.block", "trainer.max_steps"])
def test_other_words_for_none_are_told_it(path: str, word: str) -> None:
    (line,) = mistakes(f"{path}={word}")
    assert line.startswith(f"{path}={word} is not ")
    assert line.endswith(" Did you mean 'none'?")
    assert "Did you" not in mistakes(f"seed={word}")[0]


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("recipe=good.Cp", "recipe=good.Cp: there is no recipe, calibrator or preset called 'good.Cp'."),
        ("recipe=good:", "recipe: 'good:' is not of the form package.module:Class."),
        ("recipe=trade@a-b", "there is no recipe, calibrator or preset called 'trade'."),
        ("data=digits,digits", "data=digits: digits is data: it stands first in data=."),
        ("data=subset,digits", "data=subset: subset is a wrapper: it stands after the source in data=."),
        ("recipe=clean", "recipe=clean: clean is an evaluator: it stands in evaluation=."),
        ("model=sgd", "model=sgd: sgd is an optimizer: it stands in optimizer=."),
        ("recipe=trades@", "recipe=trades@: '' cannot be an alias. Use letters, digits and _."),
        ("recipe=@x", "recipe=@x leaves a name empty: give one, or write recipe=plain."),
        ("threat.name=l3", "threat=l3 is not linf or l2 or l1."),
        *(
            (f"{path}=", f"{path}= is empty: give a value, or leave it out.")
            for path in (
                "run_dir",
                "selection",
                "tracking.uri",
                "tracking.experiment",
                "tables.foo",
                "slurm.account",
                "threat",
            )
        ),
        ("config=", "config= is empty: give a file, or leave it out."),
    ],
)
def test_one_mistake_is_one_line(argument: str, line: str) -> None:
    found = mistakes(argument)
    assert line in found[0]
    assert len(found) == 1 + argument.startswith("data=subset")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["recipe=trades", "recipe.beta=3"],
            "recipe.beta: 'beta' is not in recipe=trades,pgd. Did you mean recipe.trades.beta?",
        ),
        (
            ["recipe=trades@a", "recipe.trades.beta=1"],
            "recipe.trades.beta: 'trades' is not in recipe=a,pgd. "
            "trades is called 'a' here. Did you mean recipe.a.beta?",
        ),
        (["calibration=none", "calibration.a.b=1"], "calibration.a.b: 'a' is not in calibration=none. "),
        (["evaluation=none", "evaluation.a.b=1"], "evaluation.a.b: 'a' is not in evaluation=none. "),
    ],
)
def test_what_a_stranger_most_likely_means_is_said(arguments: list[str], line: str) -> None:
    (found,) = mistakes(*arguments)
    assert found.startswith(line)


LONG = "x" * 5000


@pytest.mark.parametrize(
    "arguments",
    [
        [f"recipe={LONG}"],
        [f"recipe={LONG},,"],
        [f"recipe={LONG},plain"],
        [f"recipe={LONG}:"],
        [f"recipe={LONG}:{LONG}"],
        [f"recipe=trades@{LONG}-"],
        [f"model={LONG}"],
        [f"recipe.{LONG}.a=1"],
        [f"recipe.trades.{LONG}=1", "recipe=trades"],
        [f"{LONG}=1"],
        [f"{LONG}=1", f"{LONG}=1"],
        [LONG],
        [f"seed={LONG}"],
        [f"slurm.time={LONG}"],
        [f"tracking.uri={LONG}"],
    ],
)
def test_what_is_repeated_is_cut(arguments: list[str]) -> None:
    assert all(len(line) < 500 for line in mistakes(*arguments))


def test_all_mistakes_are_reported_together() -> None:
    found = mistakes(
        "recipe=trade,mixup", "recipe.trade.beta=x", "recipe.mixup.alhpa=1", "seed=a", "foo", "threat.eps=8", "x=1"
    )
    assert len(found) == 6
    for word in ("'trade'", "'alhpa'", "seed=a", "'foo'", "threat.eps=8", "'x'"):
        assert sum(word in line for line in found) == 1


def test_an_eps_above_one_is_for_data_of_that_range() -> None:
    assert parse(["threat=l2", "threat.eps=3"]).threat.eps == 3.0


def test_files_are_named_with_their_mistakes(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("trainer:\n  max_epochs: ten\n  max_epochs: 3\n")
    (line,) = mistakes(f"config={file}")
    assert line == f"{file}: line 3: 'max_epochs' is given twice."
    file.write_text("trainer:\n  max_epochs: ten\nconfig: other.yaml\nrecipe: [trade]\n")
    found = mistakes(f"config={file}")
    assert f"trainer.max_epochs=ten (in {file}) is not an integer." in found
    assert any(line.startswith(f"There is nothing called 'config' to set (in {file}).") for line in found)
    assert any(line.startswith(f"recipe=trade (in {file}): there is no recipe") for line in found)
    (line,) = mistakes(f"config={tmp_path / 'rum.yaml'}")
    assert line == f"config={tmp_path / 'rum.yaml'}: there is no such file. Did you mean 'run.yaml'?"
    (line,) = mistakes(f"config={tmp_path}")
    assert "cannot be read" in line
    file.write_bytes(b"\xff\xfe\x00x")
    assert "cannot be read" in mistakes(f"config={file}")[0]


@pytest.mark.parametrize(
    "text", ["a: [", "- 1", "3", "{[1]: 2}", "&a [*a]", "? x\n? x\n", "a: !!python/object:os.x {}"]
)
def test_no_file_ends_in_anything_but_mistakes(text: str) -> None:
    with pytest.raises(ConfigErrors):
        from_yaml(text)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"recipe": 3}, "recipe=3"),
        ({"recipe": [3]}, "there is no recipe, calibrator or preset called '3'"),
        ({"trainer": {"max_epochs": 2.5}}, "trainer.max_epochs=2.5 is not an integer."),
        ({"trainer": {"max_epochs": True}}, "trainer.max_epochs=True is not an integer."),
        ({"trainer": None}, "trainer=none: trainer is a group."),
        ({"model": ["mlp"]}, "model=['mlp'] is not a string."),
        ({"trainer": {"max_epochs": 1}, "trainer.max_epochs": 2}, "trainer.max_epochs is given twice: 1 and 2."),
        ({"recipe": {"name": ["mixup"], "trades": {}}}, "'trades' is not in recipe=mixup."),
        ({"optimizer": {"lr": object}}, "optimizer.lr="),
        ({"1": 2}, "There is nothing called '1' to set."),
    ],
)
def test_python_gets_the_same_errors(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigErrors) as raised:
        compose(values)
    assert any(line in found for found in raised.value.mistakes), raised.value


def test_of_a_stack_with_a_member_that_is_not_there_no_more_is_said() -> None:
    assert len(mistakes("recipe=pgd,nobody")) == 1


def test_a_metric_that_no_validation_gives_is_said_with_the_other_mistakes() -> None:
    for recipe, chosen, line in (
        ("plain", "acuracy", "selection=acuracy chooses no epoch here (it is no metric of the validation); it is "),
        ("mixup", "robust_accuracy", "selection=robust_accuracy chooses no epoch here (no recipe attacks); it is one "),
    ):
        with pytest.raises(ConfigErrors) as found:
            parse([f"recipe={recipe}", f"selection={chosen}", "seed=x"], CHECKS_OF_A_START)
        assert any(mistake.startswith(line) for mistake in found.value.mistakes)
        assert len(found.value.mistakes) == 2
    for recipe, chosen in (("trades", "robust_accuracy"), ("plain", "worst_group_accuracy")):
        assert parse([f"recipe={recipe}", f"selection={chosen}"], CHECKS_OF_A_START).selection == chosen


def test_a_required_value_that_is_wrong_is_said_with_what_is_wrong_of_places(tmp_path: Path) -> None:
    """A config that lacks it cannot be held against an earlier run's, and need not be."""
    file = tmp_path / "file"
    file.touch()
    arguments = ["data=digits,subset", "data.subset.fraction=2", f"run_dir={file}/run"]
    with pytest.raises(ConfigErrors) as found:
        parse(arguments, CHECKS_OF_A_START)
    assert "data.subset.fraction=2 has to be above 0 and below 1." in str(found.value)
    assert f"{file} is a file." in str(found.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data=image_folder", "data.path="], "data.path= is empty: give a folder."),
        (["data=npz", "data.path="], "data.path= is empty: give a file."),
        (["data=imagenet", "data.path={}/runn"], "data.path={}/runn: there is no such folder. Did you mean 'run'?"),
        (["data=npz", "data.path={}/runn"], "data.path={}/runn: there is no such file. Did you mean 'run'?"),
        (
            ["data=digits,ood@far", "data.far.sources=npz,svhn", "data.far.path={}/runn"],
            "data.far.path={}/runn: there is no such file. Did you mean 'run'?",
        ),
    ],
)
def test_a_folder_is_missed_as_one(tmp_path: Path, arguments: list[str], line: str) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigErrors) as found:
        parse([argument.format(tmp_path) for argument in arguments], CHECKS_OF_A_START)
    assert found.value.mistakes == (line.format(tmp_path),)
