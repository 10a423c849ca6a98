"""What `poise evaluate` takes: a run with what is given on top, or a model and data; and what it refuses."""

import re
from pathlib import Path

import pytest

import poise
from poise.config import ConfigErrors, compose, to_yaml
from poise.config.evaluating import Evaluation, parse_evaluation
from poise.errors import UserError

HELP = (Path(poise.__file__).parent / "help/evaluate.txt").read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run's directory, as far as a config reaches."""
    directory = tmp_path / "run"
    (directory / "predictor").mkdir(parents=True)
    config = compose(
        {"recipe": "trades", "data": {"name": "digits", "val": 0.2}, "seed": 7, "run_dir": str(directory)}, checks=[]
    )
    (directory / "config.yaml").write_text(to_yaml(config))
    return directory


def _parsed(*arguments: str) -> Evaluation:
    return parse_evaluation(arguments, lambda name, uri: Path(name))


def _mistakes(*arguments: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        _parsed(*arguments)
    return str(caught.value).splitlines()


def test_a_run_keeps_its_config_but_for_what_is_given(run: Path) -> None:
    asked = _parsed(f"run={run}", "evaluation=adversarial", "evaluation.adversarial.steps=50", "threat.eps=4/255")
    config = asked.config
    assert list(config.recipe) == ["trades", "pgd"]
    assert (config.data.params["val"], config.seed) == (0.2, 7)
    assert config.evaluation["adversarial"].params["steps"] == 50
    assert config.threat.eps == pytest.approx(4 / 255)
    assert (asked.directory, asked.fits, asked.trust, config.run_dir) == (run, False, False, None)


def test_weights_that_a_run_started_from_may_be_gone(run: Path) -> None:
    config = (run / "config.yaml").read_text()
    assert "  checkpoint: none\n" in config
    (run / "config.yaml").write_text(config.replace("  checkpoint: none\n", "  checkpoint: gone.pt\n"))
    assert _parsed(f"run={run}").config.model.checkpoint is None


def test_calibrators_that_are_named_are_fitted(run: Path) -> None:
    asked = _parsed(f"run={run}", "calibration=temperature_scaling", "run_dir=looked", "trust=true")
    assert (asked.fits, asked.trust, asked.config.run_dir) == (True, True, "looked")
    assert list(asked.config.calibration) == ["temperature_scaling"]


def test_other_data_replace_the_runs_whole(run: Path) -> None:
    data = _parsed(f"run={run}", "data=colored_digits").config.data
    assert data.name == "colored_digits"
    assert data.params == compose({"data": "colored_digits"}, checks=[]).data.params


def test_test_sets_may_be_added_to_a_runs_own_data(run: Path) -> None:
    data = _parsed(f"run={run}", "data=digits,corruptions", "data.corruptions.severity=5").config.data
    own = _parsed(f"run={run}").config.data
    assert (data.name, data.params) == (own.name, own.params)
    assert data.wrappers["corruptions"].params["severity"] == (5,)


@pytest.mark.parametrize(
    "words",
    ["data=digits", "data=digits,corruptions data.val=0.5", "data=digits,subset,corruptions data.subset.fraction=0.5"],
)
def test_nothing_else_of_a_runs_data_is_changed(run: Path, words: str) -> None:
    assert _mistakes(f"run={run}", *words.split()) == [
        f"data={words.split()[0].removeprefix('data=')}: the run was trained on these, and its splits stay as they "
        "were. Leave data out, or add to it: data=digits,<wrapper> with one of corruptions, ood."
    ]


def test_a_file_that_is_not_named_again_is_the_runs_own(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.npz").touch()
    config = (run / "config.yaml").read_text()
    own = f"data:\n  name:\n  - npz\n  path: {tmp_path / 'mine.npz'}\naugment:"
    (run / "config.yaml").write_text(re.sub(r"data:\n.*?augment:", lambda found: own, config, flags=re.DOTALL))
    assert "the run was trained on these" in _mistakes(f"run={run}", "data=npz", "data.val=0.5")[0]


def test_a_model_needs_data_and_weights(tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch()
    asked = _parsed("model=small_cnn", "data=digits", f"model.checkpoint={tmp_path / 'w.pt'}")
    assert (asked.directory, asked.fits, asked.config.model.name) == (None, True, "small_cnn")
    assert _parsed("model=timm/resnet18", "model.pretrained=true", "data=digits").config.model.params["pretrained"]
    assert _mistakes("model=small_cnn", "data=digits") == [
        "model.checkpoint= is missing: small_cnn alone has random weights."
    ]
    assert _mistakes("model=timm/resnet18", "data=digits")[0].startswith("model.checkpoint= is missing")
    assert [line.split(":")[0] for line in _mistakes("model=small_cnn")] == [
        "data= is missing",
        "model.checkpoint= is missing",
    ]
    assert [line.split(":")[0] for line in _mistakes("evaluation=clean")] == ["model= is missing", "data= is missing"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("optimizer.lr=0.1", "optimizer.lr: an evaluation trains nothing"),
        ("recipe=trades", "recipe: an evaluation trains nothing"),
        ("trainer.max_epochs=3", "trainer.max_epochs: an evaluation trains nothing"),
        ("resume=auto", "resume: an evaluation trains nothing"),
        ("model.new_head=true", "model.new_head: an evaluation trains nothing"),
        ("model.freeze=backbone", "model.freeze: an evaluation trains nothing"),
        ("model=small_cnn", "model: the run has its own"),
        ("seed=3", "seed: the run has its own"),
        ("data.val=0.3", "data.val: the run's splits stay as they were"),
        ("data=digits data.calibration=0.5", "data=digits: the run was trained on these"),
        ("config=my.yaml", "config= and run= are both given"),
        ("trust=maybe", "trust=maybe is not true or false"),
        ("evaluation=claen", "Did you mean 'clean'?"),
        ("evaluaton=clean", "Did you mean 'evaluation'?"),
    ],
)
def test_what_has_no_effect_is_a_mistake(run: Path, argument: str, said: str) -> None:
    assert said in "\n".join(_mistakes(f"run={run}", *argument.split()))


def test_what_a_run_was_given_as_an_object_has_to_be_given_again(run: Path) -> None:
    text = (run / "config.yaml").read_text()
    text = text.replace("- trades\n", "- trades\n  - object:Mine\n").replace("- digits\n", "- object:Splits\n")
    (run / "config.yaml").write_text(text)
    assert _mistakes(f"run={run}") == [f"data= is missing: name what to evaluate on ({run} names none)."]
    asked = parse_evaluation({"run": str(run)}, lambda name, uri: Path(name), data_at_hand=True)
    assert list(asked.config.recipe) == ["trades", "pgd"]


def test_a_predictor_alone_needs_data(tmp_path: Path) -> None:
    assert _mistakes(f"run={tmp_path}") == [f"data= is missing: name what to evaluate on ({tmp_path} names none)."]
    assert _parsed(f"run={tmp_path}", "data=digits").config.data.name == "digits"


def test_a_run_imports_nothing_that_is_not_trusted(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted.py").write_text("from poise import Recipe\nraise SystemExit\nclass Mine(Recipe): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("- trades\n", "- trades\n  - planted:Mine\n"))
    with pytest.raises(UserError, match="names code that poise does not know, planted:Mine: give trust=true if"):
        _parsed(f"run={run}")


def test_the_examples_of_the_help_are_right(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package/my_module.py").write_text("def make(num_classes: int = 2): ...\n")
    for name in ("weights.pt", "my.npz", "shifted.npz"):
        Path(name).touch()
    examples = [line.split()[2:] for line in HELP.partition("Examples")[2].splitlines() if line.strip()]
    assert len(examples) == 4
    for words in examples:
        assert _parsed(*(word.replace("runs/mine", str(run)) for word in words)).config.evaluation
