from pathlib import Path

import pytest

from poise import registry
from poise.cli import COMMANDS, main
from poise.completion.line import candidates
from poise.completion.settings import settings_of
from poise.config import parse, presets
from poise.errors import UserError


def after(line: str) -> set[str]:
    """What may stand at the end of a line; `_` shows where a word is finished."""
    return {word.replace(" ", "_") for word in candidates(line.split(" "))}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("tr", {"train_"}),
        ("--v", {"--version_"}),
        ("train --pr", {"--print-config_"}),
        ("help u", {"ui_"}),
        ("completion z", {"zsh_"}),
        ("list recip", {"recipes_"}),
        ("list trades_c", {"trades_cifar10_"}),
        ("list trades x", set()),
        ("ui p", {"port="}),
        ("ui port=1 ", {"tracking.uri="}),
        ("plan gp", {"gpu=", "gpus="}),
        ("plan gpu=h", {"gpu=h100_", "gpu=h200_"}),
        ("plan network=ib_4", {"network=ib_400_"}),
        ("plan gpus=2 recipe=trades recipe.trades.b", {"recipe.trades.beta="}),
        ("sy", {"sync_"}),
        ("sync run", {"run_dir="}),
        ("sync run_dir=runs ", {"tracking.uri="}),
        ("train trai", {"trainer."}),
        ("submit slurm.co", {"slurm.constraint="}),
        ("submit --d", {"--dry-run_", "--debug_"}),
        ("submit --s", {"--sweep_"}),
        ("submit --sweep r", {"recipe=", "run_dir=", "resume="}),
        ("submit seed=0 see", set()),
        ("submit --sweep seed=0 see", {"seed="}),
        ("train trainer.max", {"trainer.max_epochs=", "trainer.max_steps="}),
        ("train trainer.max_epochs=3 trainer.max", {"trainer.max_steps="}),
        ("train recipe=trades recipe.", {"recipe.trades.", "recipe.pgd."}),
        ("train recipe=trades recipe.trades.b", {"recipe.trades.beta="}),
        ("train recipe=trades,pgd@a recipe.a.st", {"recipe.a.steps=", "recipe.a.step_size=", "recipe.a.start="}),
        ("train recipe=trades recipe.pgd.start=", {f"recipe.pgd.start={w}_" for w in ("uniform", "normal", "none")}),
        ("train recipe=trades,mi", {"recipe=trades,mixup"}),
        ("train recipe=trades_c", {"recipe=trades_cifar10"}),
        ("train recipe=trades_cifar10 recipe.trades.b", {"recipe.trades.beta="}),
        ("train recipe=pla", {"recipe=plain"}),
        ("train recipe=trades,pla", set()),
        ("train calibration=t", {"calibration=temperature_scaling"}),
        ("train calibration.t", {"calibration.temperature_scaling."}),
        ("train evaluation=clean,a", {"evaluation=clean,adversarial"}),
        ("train evaluation.clean.", {"evaluation.clean.bins="}),
        ("train data=d", {"data=digits"}),
        ("train data=npz data.p", {"data.path="}),
        ("train model=mlp model.de", {"model.depth="}),
        ("train model=ti", {"model=timm/"}),
        ("train model=timm/test_resn", {"model=timm/test_resnet_"}),
        ("train model=timm/resnet18 model.pre", {"model.pretrained="}),
        ("train model=mlp model.ch", {"model.checkpoint=", "model.channels_last="}),
        ("train model=mlp model.f", {"model.freeze="}),
        ("train optimizer.dec", {"optimizer.decay_norms_and_biases="}),
        (
            "train optimizer=adamw optimizer.decay_norms_and_biases=",
            {f"optimizer.decay_norms_and_biases={flag}_" for flag in ("true", "false")},
        ),
        ("train optimizer=adamw optimizer.beta", {"optimizer.beta1=", "optimizer.beta2="}),
        ("train trainer.progress=", {"trainer.progress=true_", "trainer.progress=false_"}),
        ("train strategy=deep", {f"strategy=deepspeed_zero{n}{end}_" for n in (1, 2, 3) for end in ("", "_offload")}),
        ("train threat.eps=", set()),
        ("train threat=l", {"threat=linf_", "threat=l2_", "threat=l1_"}),
        ("train tracking=", {"tracking=mlflow_", "tracking=none_"}),
        ("train ta", {"tables."}),
        ("train selec", {"selection="}),
        ("train nothing.at.all=", set()),
        ("train recipe=nonsense recipe.", set()),
        ("calibrate lo", {"logits="}),
        ("calibrate ap", {"apply_"}),
        ("calibrate --e", {"--explain_"}),
        ("calibrate apply cali", {"calibrator="}),
        ("calibrate logits=no.npz ap", set()),
        ("calibrate calibration=t", {"calibration=temperature_scaling"}),
        ("calibrate recipe=t", {"recipe=temperature_scaling"}),
        ("calibrate calibration=temperature_scaling calibration.te", {"calibration.temperature_scaling."}),
        ("calibrate logits=no.npz recipe=temperature_scaling@t calibration.t.l", {"calibration.t.lowest="}),
        ("calibrate calibration=nonsense calibration.", set()),
        ("calibrate ta", set()),
        ("evaluate r", {"run=", "run_dir="}),
        ("evaluate run=a evaluation=adv", {"evaluation=adversarial"}),
        ("evaluate run=a evaluation=clean evaluation.c", {"evaluation.clean.bins="}),
        ("evaluate trust=", {"trust=true_", "trust=false_"}),
        ("evaluate trainer.", {"trainer.accelerator=", "trainer.eval_batch_size=", "trainer.progress="}),
        ("evaluate opt", set()),
        ("predict ", {"run=", "input=", "out=", "trust=", "tracking."}),
        ("predict trust=", {"trust=true_", "trust=false_"}),
        ("predict run=a o", {"out="}),
        ("nonsense ", set()),
        ("train recipe=a recipe=b trainer.ac", {"trainer.accelerator=", "trainer.accumulate="}),
    ],
)
def test_what_may_stand_next(line: str, found: set[str]) -> None:
    assert after(line) == found


def test_commands_first() -> None:
    assert after("") == {*(f"{command}_" for command in COMMANDS), "help_"}


def test_names_come_from_the_registry_and_the_presets() -> None:
    known = [*registry.records("recipe"), *registry.records("calibrator"), *presets.names(), "plain"]
    assert after("train recipe=") == {f"recipe={name}" for name in known}


def test_a_name_is_not_offered_twice() -> None:
    assert "recipe=trades,trades" not in after("train recipe=trades,")
    assert "recipe=trades,pgd" in after("train recipe=trades,")


def test_items_of_a_list_follow_each_other() -> None:
    line = "train data=digits,corruptions,ood data."
    assert {f"data.corruptions.kinds={kind}" for kind in ("fog", "contrast")} <= after(f"{line}corruptions.kinds=")
    assert after(f"{line}corruptions.kinds=fog,con") == {"data.corruptions.kinds=fog,contrast"}
    assert after(f"{line}ood.sources=digits,colo") == {"data.ood.sources=digits,colored_digits"}


def test_every_path_of_a_config_can_be_completed() -> None:
    words = ["recipe=trades,mixup", "data=digits,subset", "data.subset.fraction=0.5"]
    paths = set(settings_of(words))

    def leaves(tree: object, prefix: str) -> set[str]:
        if not isinstance(tree, dict):
            return {prefix.removesuffix(".name")}
        return set().union(*(leaves(value, f"{prefix}.{key}" if prefix else key) for key, value in tree.items()))

    from poise.config import to_mapping

    assert leaves(to_mapping(parse(words)), "") <= paths | {"tables"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.yaml", "mine.npz", ".hidden.yaml", "runs/a/config.yaml", "my folder/x.yaml", "photo.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("train config=", ["config=mine.yaml ", "config=my folder/", "config=runs/"]),
        ("train config=.h", ["config=.hidden.yaml "]),
        ("train config=runs/a/", ["config=runs/a/config.yaml "]),
        ("train config=nowhere/", []),
        ("train run_dir=", ["run_dir=my folder/", "run_dir=runs/"]),
        ("train data=npz data.path=mi", ["data.path=mine.npz ", "data.path=mine.yaml "]),
        ("train tables.errors=r", ["tables.errors=runs/"]),
        ("calibrate logits=", ["logits=mine.npz ", "logits=my folder/", "logits=runs/"]),
        ("predict run=", ["run=my folder/", "run=runs/"]),
        ("predict input=m", ["input=mine.npz ", "input=my folder/"]),
        ("predict input=p", ["input=photo.jpg "]),
    ],
)
def test_files(files: Path, line: str, found: list[str]) -> None:
    assert candidates(line.split(" ")) == found


def test_a_user_s_home(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(files))
    assert candidates(["train", "config=~/mi"]) == ["config=~/mine.yaml "]


def test_a_config_file_says_what_its_members_are(files: Path) -> None:
    Path("mine.yaml").write_text("recipe: pgd_at,mixup\n")
    assert after("train config=mine.yaml recipe.mi") == {"recipe.mixup.alpha="}


def test_own_recipes_are_read_from_their_source(files: Path) -> None:
    Path("completed_own.py").write_text(
        "from poise import Recipe\n\n\nclass Mine(Recipe):\n"
        "    def __init__(self, strength: float = 0.5) -> None:\n        super().__init__()\n"
    )
    registry.refresh()
    assert after("train recipe=completed_own:Mine recipe.") == {"recipe.Mine.strength="}


def test_trouble_is_never_shown_at_a_tab(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("broken.py").write_text("def (")
    registry.refresh()
    assert candidates(["train", "recipe=broken:Mine", "recipe."]) == []

    def fails(*_: object) -> None:
        raise UserError("no")

    monkeypatch.setattr(registry, "records", fails)
    assert candidates(["train", "recipe="]) == []


def test_the_hidden_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "words", "poise\ntrain\nrecipe=trades\nrecipe.trades.b\n"]) == 0
    assert capsys.readouterr().out == "recipe.trades.beta=\n"
    main(["completion", "words", "poise\ntrain\n\n"])
    assert "trainer.\n" in capsys.readouterr().out
    main(["completion", "words", "poise\n--debug\ntrain\n--deb\n"])
    assert capsys.readouterr().out == "--debug \n"
