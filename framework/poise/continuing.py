"""Whether a run that goes on is what it was: its config and its data, against what its directory keeps of them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from poise import kept
from poise.files.shown import listed

HARMLESS = (
    "run_dir",
    "resume",
    "strategy",
    "deepspeed",
    "trainer.accelerator",
    "trainer.checkpoint_every",
    "trainer.devices",
    "trainer.eval_batch_size",
    "trainer.progress",
    "trainer.timeout",
)
HARMLESS_GROUPS = ("calibration.", "evaluation.", "tracking.", "slurm.")  # nothing that is trained depends on them
TOLD = 8  # changes of a config
NO_CONFIG = "bring it back, or name another run_dir"
NO_DATA = "bring it back, or delete it to go on without a check that the data are those that the run began with"


def changes_of_config(file: Path, now: str) -> list[str]:
    """The keys whose values matter and have changed, each with both values; the first few of many.

    Args:
        file: the config that the run began with.
        now: the config that it is to go on with, as YAML.

    Raises:
        UserError: the file is damaged.
    """
    old, new = _values_in(file), _flat(now)
    keys = [key for key in sorted({*old, *new}) if key not in HARMLESS and not key.startswith(HARMLESS_GROUPS)]
    absent = "not there"
    told = [
        f"{key} was {old.get(key, absent)}, now {new.get(key, absent)}" for key in keys if old.get(key) != new.get(key)
    ]
    return told if len(told) <= TOLD else [*told[:TOLD], f"and {len(told) - TOLD} more"]


def change_of_data(file: Path, now: Mapping[str, Any]) -> str | None:
    """How data differ from those of before, the first difference in words; None where they are the same.

    Args:
        file: what the data were.
        now: what they are, as `identity_of` gives it.

    Raises:
        UserError: the file is damaged.
    """
    before = _identity_in(file)
    if before["classes"] != now["classes"]:
        return f"the classes were {listed(before['classes'])} and are {listed(now['classes'])}"
    for name in {**before["splits"], **now["splits"]}:
        then, today = before["splits"].get(name), now["splits"].get(name)
        if then is None or today is None:
            return f"there {'was no' if then is None else 'is no more'} {name}"
        if then["examples"] != today["examples"]:
            return f"{name} had {then['examples']} examples and has {today['examples']}"
        if then != today:
            return f"{name} holds other examples"
    return None


def _identity_in(file: Path) -> dict[str, Any]:
    """What the data were, as far as they are compared."""
    found = kept.read_mapping(file, NO_DATA)
    if not _is_identity(found):
        raise kept.damaged(file, "this describes no data", NO_DATA)
    return found


def _is_identity(found: Mapping[str, Any]) -> bool:
    classes, splits = found.get("classes"), found.get("splits")
    if not isinstance(classes, list) or not isinstance(splits, dict):
        return False
    names = all(isinstance(name, str) for name in classes)
    return names and all(isinstance(split, dict) and "examples" in split for split in splits.values())


def _values_in(file: Path) -> dict[str, str]:
    """The values of a run's config by path."""
    import yaml

    try:
        found = _flat(kept.read_text(file, NO_CONFIG))
    except (yaml.YAMLError, RecursionError):
        raise kept.damaged(file, "this is no YAML", NO_CONFIG) from None
    if set(found) <= {""}:
        raise kept.damaged(file, "this is no config", NO_CONFIG)
    return found


def _flat(text: str) -> dict[str, str]:
    import yaml

    def walk(prefix: str, value: object) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else str(key), inner)
        else:
            yield prefix, str(value)

    return dict(walk("", yaml.load(text, Loader=yaml.BaseLoader)))
