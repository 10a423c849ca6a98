"""Every path that the commands beside training know, with what may stand after its equals sign."""

from collections.abc import Iterator, Sequence

from poise import registry
from poise.completion.settings import FOLDERS, Setting, of_members, settings_of
from poise.config.commands import FITTED, INPUTS, RESULTS, SCORES, draft_of_calibrate
from poise.config.evaluating import GROUPS_TO_SET, TO_SET
from poise.config.planning import OWN
from poise.planning.hardware import GPUS, NETWORKS

WORDS = Setting(("true", "false"))


def settings_of_calibrate(arguments: Sequence[str]) -> dict[str, Setting]:
    """What `poise calibrate` takes once these arguments stand on the line. Mistakes in them are passed over."""
    names = list(registry.records("calibrator"))
    named = Setting([*names, "none"], names)
    found = {
        "logits": Setting(files=SCORES),
        "calibration": named,
        "recipe": named,
        "out": Setting(files=RESULTS),
        "save": Setting(files=FITTED),
        "figures": Setting(files=(FOLDERS,)),
        "bootstrap": Setting(),
    }
    return found | dict(_parameters(arguments))


def settings_of_apply() -> dict[str, Setting]:
    """What `poise calibrate apply` takes."""
    return {
        "calibrator": Setting(files=FITTED),
        "logits": Setting(files=SCORES),
        "out": Setting(files=RESULTS),
        "trust": WORDS,
    }


def _parameters(arguments: Sequence[str]) -> Iterator[tuple[str, Setting]]:
    asked, _ = draft_of_calibrate([argument for argument in arguments if "=" in argument])
    yield from of_members("calibration", "calibrator", asked.calibration)


def settings_of_evaluate(arguments: Sequence[str]) -> dict[str, Setting]:
    """What `poise evaluate` takes once these arguments stand on the line. Mistakes in them are passed over."""
    of_config = [argument for argument in arguments if argument.partition("=")[0] not in ("run", "trust")]
    found = {
        path: setting
        for path, setting in settings_of(of_config).items()
        if path.partition(".")[0] in GROUPS_TO_SET or path in TO_SET
    }
    return found | {"run": Setting(files=(FOLDERS,)), "trust": WORDS}


def settings_of_plan(arguments: Sequence[str]) -> dict[str, Setting]:
    """What `poise plan` takes once these arguments stand on the line. Mistakes in them are passed over."""
    found = settings_of([argument for argument in arguments if argument.partition("=")[0] not in OWN])
    return found | {name: Setting() for name in OWN} | {"gpu": Setting(list(GPUS)), "network": Setting(list(NETWORKS))}


def settings_of_predict() -> dict[str, Setting]:
    """What `poise predict` takes."""
    return {
        "run": Setting(files=(FOLDERS,)),
        "input": Setting(files=INPUTS),
        "out": Setting(files=RESULTS),
        "trust": WORDS,
        "tracking.uri": Setting(),
    }


def settings_of_sync() -> dict[str, Setting]:
    """What `poise sync` takes."""
    return {"run_dir": Setting(files=(FOLDERS,)), "tracking.uri": Setting()}
