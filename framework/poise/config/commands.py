"""What the commands beside training are asked, in the grammar of a config."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge

from poise import registry
from poise.config.compose import default_calibrators, refuse_aliases
from poise.config.draft import Draft
from poise.config.layers import Layer, from_arguments, items, shown, typed
from poise.config.members import read_names, read_parameters, refuse_strangers
from poise.config.places import nearest_file, no_file
from poise.config.schema import Entry, TrackingConfig
from poise.errors import nearest
from poise.files.pictures import EXTENSIONS
from poise.resamples import too_few
from poise.secrets import redact
from poise.tracking import address

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
SCORES = (".npz", ".csv")
INPUTS = (".npz", ".npy", ".csv", *EXTENSIONS)
RESULTS = (".npz", ".csv")
FITTED = (".safetensors",)
PICTURE = "reliability.png"  # in figures=
OF_CALIBRATE = ("logits", "out", "save", "figures", "bootstrap")


@dataclass(frozen=True)
class Calibrate:
    """What `poise calibrate` is asked.

    Args:
        logits: file of logits or probabilities, and labels.
        calibration: calibrators by alias, in order.
        out: file for the calibrated probabilities.
        save: file for the shipped calibrator.
        figures: directory for pictures, made where there is none.
        bootstrap: resamples behind the intervals of the table, 100 or more; 0 for no intervals.
        explain: whether to say in words what the numbers mean.
    """

    logits: str = ""
    calibration: dict[str, Entry] = field(default_factory=dict)
    out: str | None = None
    save: str | None = None
    figures: str | None = None
    bootstrap: Annotated[int, Ge(0)] = 0
    explain: bool = False


@dataclass(frozen=True)
class Apply:
    """What `poise calibrate apply` is asked.

    Args:
        calibrator: file of a fitted calibrator.
        logits: file of logits or probabilities; labels are not looked at.
        out: file for the calibrated probabilities.
        trust: whether code that the calibrator names but poise does not know may be imported.
    """

    calibrator: str = ""
    logits: str = ""
    out: str | None = None
    trust: bool = False


@dataclass(frozen=True)
class Predict:
    """What `poise predict` is asked.

    Args:
        run: directory of a run, or what else `Predictor.load` takes.
        input: file of the inputs, or folder of pictures.
        out: file for the probabilities.
        trust: whether code that the predictor names but poise does not know may be imported.
        uri: of the tracking server that knows the run's id; None as for runs.
    """

    run: str = ""
    input: str = ""
    out: str | None = None
    trust: bool = False
    uri: str | None = None


@dataclass(frozen=True)
class Sync:
    """What `poise sync` is asked.

    Args:
        run_dir: a run's directory, or one with runs at any depth.
        uri: of the tracking server or database; None is where each run has been tracked.
    """

    run_dir: str = "runs"
    uri: str | None = None


def parse_calibrate(arguments: Sequence[str], explain: bool = False) -> Calibrate:
    """What `path=value` arguments ask of `poise calibrate`, and whether words are asked for.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    asked, draft = draft_of_calibrate(arguments)
    _check_given(draft, "logits", asked.logits, "a file, .npz or .csv")
    _check_input(draft, "logits", asked.logits, SCORES, 'numpy.savez("scores.npz", logits=…, labels=…)')
    _check_out(draft, "out", asked.out, asked.logits)
    _check_out(draft, "save", asked.save, asked.logits, FITTED)
    if asked.save is not None and not asked.calibration:
        draft.mistake("save= keeps a calibrator, and calibration=none has none: leave one of them out.")
    _check_figures(draft, asked.figures)
    if wrong := too_few(asked.bootstrap):
        draft.mistake(f"bootstrap={asked.bootstrap}: {wrong}.")
    draft.finish()
    return replace(asked, explain=explain)


def parse_apply(arguments: Sequence[str]) -> Apply:
    """What `path=value` arguments ask of `poise calibrate apply`.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    draft, paths = Draft(), tuple(item.name for item in fields(Apply))
    draft.add(_known(draft, from_arguments(arguments, draft.mistake), "calibrate apply", paths))
    asked = Apply(**draft.fields(Apply, only=paths))
    _check_given(draft, "calibrator", asked.calibrator, "what poise calibrate … save=calibrator.safetensors wrote")
    _check_input(draft, "calibrator", asked.calibrator, FITTED, "poise calibrate … save=calibrator.safetensors")
    _check_given(draft, "logits", asked.logits, "a file, .npz or .csv")
    _check_input(draft, "logits", asked.logits, SCORES, 'numpy.savez("new.npz", logits=…)')
    _check_given(draft, "out", asked.out or "", "a file for the probabilities, .npz or .csv")
    _check_out(draft, "out", asked.out, asked.logits)
    draft.finish()
    return asked


def draft_of_calibrate(arguments: Sequence[str]) -> tuple[Calibrate, Draft]:
    """What arguments ask of `poise calibrate`, whatever is wrong with it, and the mistakes."""
    draft = Draft()
    layer = _as_calibration(draft, from_arguments(arguments, draft.mistake))
    draft.add(_known(draft, layer, "calibrate", (*OF_CALIBRATE, "calibration"), groups=("calibration",)))
    level = draft.level("calibration.name")
    members = read_names(draft, "calibration", ["calibrator"], default_calibrators())
    refuse_aliases(draft, members)
    calibration = read_parameters(draft, "calibration", members)
    refuse_strangers(draft, "calibration", level, members, {})
    return Calibrate(**draft.fields(Calibrate, only=OF_CALIBRATE), calibration=calibration), draft


def parse_predict(arguments: Sequence[str]) -> Predict:
    """What `path=value` arguments ask of `poise predict`.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    draft = Draft()
    paths = ("run", "input", "out", "trust", "tracking.uri")
    draft.add(_known(draft, from_arguments(arguments, draft.mistake), "predict", paths))
    tracking = draft.fields(TrackingConfig, "tracking", only=("uri",))
    asked = Predict(**draft.fields(Predict, only=paths), **tracking)
    _check_given(draft, "run", asked.run, "the directory of a finished run")
    _check_given(draft, "input", asked.input, "a file, .npz, .npy or .csv, a picture, or a folder of pictures")
    if not os.path.isdir(asked.input):
        _check_input(draft, "input", asked.input, INPUTS, 'numpy.savez("inputs.npz", x=…)')
    _check_out(draft, "out", asked.out, asked.input)
    draft.finish()
    return asked


def parse_sync(arguments: Sequence[str]) -> Sync:
    """What `path=value` arguments ask of `poise sync`.

    Raises:
        ConfigErrors: all mistakes, one line each.
    """
    draft = Draft()
    draft.add(_known(draft, from_arguments(arguments, draft.mistake), "sync", ("run_dir", "tracking.uri")))
    tracking = draft.fields(TrackingConfig, "tracking", only=("uri",))
    asked = Sync(**draft.fields(Sync, only=("run_dir",)), **tracking)
    if asked.uri is not None and (wrong := address.mistake(asked.uri)):
        draft.mistake(f"tracking.uri={shown(redact(asked.uri))} {wrong}.")
    draft.finish()
    return asked


def _known(draft: Draft, layer: Layer, command: str, paths: Iterable[str], groups: Sequence[str] = ()) -> Layer:
    """What of a layer the command knows; the rest is a mistake."""
    known = {path: path for path in paths}
    values: dict[str, Any] = {}
    for path, value in layer.values.items():
        if typed(path) in known or path.partition(".")[0] in groups:
            values[path] = value
        else:
            has = ", ".join(f"{path}=" for path in known)
            draft.mistake(f"poise {command} has no {shown(typed(path))!r}: {has}.{nearest(path, known)}")
    return replace(layer, values=values)


def _as_calibration(draft: Draft, layer: Layer) -> Layer:
    """`recipe=` as another word for `calibration=`: nothing is trained, so it can only mean calibrators."""
    values = dict(layer.values)
    named = values.pop("recipe.name", None)
    if named is not None and "calibration.name" in values:
        draft.mistake("recipe= and calibration= are both given, and both name calibrators here: leave one of them out.")
    elif named is not None:
        values["calibration.name"] = named
    for path in [path for path in values if path.startswith("recipe.")]:
        draft.mistake(f"{shown(path)}: nothing is trained here. Did you mean calibration.{path.partition('.')[2]}?")
        del values[path]
    kept = _without_recipes(draft, "recipe" if named is not None else "calibration", values.get("calibration.name"))
    return replace(layer, values=values | ({} if kept is None else {"calibration.name": kept}))


def _without_recipes(draft: Draft, given: str, value: str | None) -> str | None:
    """Names without those of recipes, which are a mistake."""
    calibrators = registry.records("calibrator")
    trained = [name for name in items(value) if name in registry.records("recipe") and name not in calibrators]
    for name in trained:
        draft.mistake(f"{given}={name}: {name} is a recipe, which trains. Calibrators are {', '.join(calibrators)}.")
    left = [name for name in items(value) if name not in trained]
    return value if not trained else ",".join(left or default_calibrators())


def _check_given(draft: Draft, path: str, value: str, wanted: str) -> None:
    if not value and path not in draft.origins:
        draft.mistake(f"{path}= is missing: give {wanted}.")


def _check_input(draft: Draft, path: str, value: str, suffixes: Sequence[str], written: str) -> None:
    """A file that is there, and of a kind that can be read."""
    said = f"{path}={shown(value)}"
    kinds = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
    suffix = Path(value).suffix.lower()
    if not value:
        return
    if os.path.isdir(value):
        draft.mistake(f"{said} is a directory: give a file, {kinds}.")
    elif not os.path.isfile(value):
        draft.mistake(f"{said}: {no_file(Path(value))}")
    elif suffix in PICKLES:
        draft.mistake(f"{said}: a {suffix} file may run code when it is read, so poise does not: {written} makes one.")
    elif suffix not in suffixes:
        draft.mistake(f"{said}: the name of the file says no kind that is read here, which are {kinds}.")
    elif not os.access(value, os.R_OK):
        draft.mistake(f"{said} cannot be read: no permission.")


def _check_out(draft: Draft, name: str, out: str | None, given: str, suffixes: Sequence[str] = RESULTS) -> None:
    """A file that can be made, and takes the place of no other."""
    if out is None:
        return
    said, path = f"{name}={shown(out)}", Path(out)
    if os.path.exists(out) and os.path.exists(given) and os.path.samefile(out, given):
        draft.mistake(f"{said} is the file that is read. Give another name.")
    elif os.path.isdir(out):
        draft.mistake(f"{said} is a directory: give the name of a file, {' or '.join(suffixes)}.")
    elif os.path.lexists(out):
        draft.mistake(f"{said} is there already, and nothing is overwritten. Give another name, or remove it.")
    elif path.suffix.lower() not in suffixes:
        draft.mistake(f"{said}: the name of the file has to end in {' or '.join(suffixes)}.")
    elif not path.parent.is_dir():
        draft.mistake(f"{said}: there is no directory {path.parent}.{nearest_file(path.parent)}")
    elif not os.access(path.parent, os.W_OK | os.X_OK):
        draft.mistake(f"{said} cannot be written: no permission in {path.parent}.")
    elif wrong := _unwritable(path):
        draft.mistake(f"{said} cannot be written: {wrong}.")


def _check_figures(draft: Draft, figures: str | None) -> None:
    """A directory in which the picture can be made, there or not, and takes the place of no other."""
    if figures is None:
        return
    said, picture = f"figures={shown(figures)}", Path(figures, PICTURE)
    there = next(path for path in picture.parents if os.path.lexists(path))
    if not there.is_dir():
        draft.mistake(f"{said}: {there} is no directory. Give another name.")
    elif os.path.lexists(picture):
        draft.mistake(f"{said}: {picture} is there already, and nothing is overwritten. Give another, or remove it.")
    elif wrong := _unwritable(there / PICTURE):
        draft.mistake(f"{said} cannot be written: {wrong}.")


def _unwritable(path: Path) -> str:
    """Why no file can be made there, as one without a name finds it; "" where it can."""
    try:
        with suppress(FileNotFoundError):
            os.lstat(path)  # refuses a name that is too long
        with tempfile.TemporaryFile(dir=path.parent):
            return ""
    except OSError as error:
        return error.strerror or str(error)
