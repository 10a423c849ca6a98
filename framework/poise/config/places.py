"""Files and directories that a config names: looked at before anything is built, and without changing any."""

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from poise import registry
from poise.config.draft import Draft
from poise.config.files import to_yaml
from poise.config.schema import Config, Entry
from poise.errors import UserError, nearest
from poise.run_directory import RunDirectory
from poise.sweep import is_sweep


def check_places(config: Config, draft: Draft) -> None:
    """A run directory that is not to be had, and files of data, weights or tables that are not there."""
    for look in (_look_at_run_directory, _look_at_data, _look_at_weights, _look_at_tables):
        for mistake in look(config):
            draft.mistake(mistake)


def table_file(where: str, name: str) -> Path:
    """The file of a table: itself, or in the directory of the run that made it.

    Raises:
        UserError: there is none.
    """
    path = Path(where)
    if os.path.isdir(path):
        made = sorted(file.stem for file in (path / "tables").glob("*.npy"))
        if name not in made:
            known = ", ".join(made) or "none"
            raise UserError(f"tables.{name}={where}: that run made no such table, only {known}.{nearest(name, made)}")
        return path / "tables" / f"{name}.npy"
    if not os.path.isfile(path):
        raise UserError(f"tables.{name}={where}: there is no such file or run.{nearest_file(path)}")
    return path


def weights_file(where: str) -> Path:
    """The file of weights that `model.checkpoint` names.

    Raises:
        UserError: there is none, or it is a directory.
    """
    path = Path(where)
    if os.path.isdir(path):
        shipped = [file for file in ("model.safetensors", "predictor/model.safetensors") if (path / file).is_file()]
        hint = f" Did you mean {path / shipped[0]}?" if shipped else ""
        raise UserError(f"model.checkpoint={where} is a directory: give a file of weights.{hint}")
    if not os.path.isfile(path):
        raise UserError(f"model.checkpoint={where}: {no_file(path)}")
    return path


def _look_at_run_directory(config: Config) -> Iterable[str]:
    if config.run_dir is None:
        return
    path = Path(config.run_dir)
    if is_sweep(path):
        again = f"poise submit --resubmit-failed run_dir={path}"
        yield f"run_dir={path} holds a sweep: {again} goes on with it; name another directory for something else."
        return
    try:
        RunDirectory(path).check(to_yaml(config), resume=config.resume == "auto")
    except UserError as error:
        yield f"{error}."
        return
    except OSError as error:
        yield f"run_dir={path} cannot be used: {error.strerror}."
        return
    standing = next((place for place in (path, *path.absolute().parents) if os.path.exists(place)), Path("/"))
    if not standing.is_dir():
        yield f"run_dir={path}: {standing} is a file."
    elif not os.access(standing, os.W_OK | os.X_OK):
        yield f"run_dir={path} cannot be written: no permission in {standing}."


def _look_at_data(config: Config) -> Iterable[str]:
    if not config.data.name:
        return  # said already, where it was read
    yield from _missing_files("data", "data", config.data)
    for alias, entry in config.data.wrappers.items():
        yield from _missing_files("wrapper", f"data.{alias}", entry)
        for parameter, kind in registry.find("wrapper", entry.name).attributes.get("named", {}).items():
            for name in filter(partial(registry.named, kind), entry.params.get(parameter) or ()):
                yield from _missing_files(kind, f"data.{alias}", Entry(name, entry.params))


def _missing_files(kind: str, address: str, entry: Entry) -> Iterable[str]:
    attributes = registry.find(kind, entry.name).attributes
    files: Iterable[str] = attributes.get("files") or ()
    folders: Iterable[str] = attributes.get("folders") or ()
    for name in sorted(files):
        value = entry.params.get(name)
        wanted = "folder" if name in folders else "file"
        if isinstance(value, str) and not value:
            yield f"{address}.{name}= is empty: give a {wanted}."
        elif isinstance(value, str) and not os.path.exists(value):
            yield f"{address}.{name}={value}: {no_file(Path(value), wanted)}"


def _look_at_weights(config: Config) -> Iterable[str]:
    """A run that goes on has its weights from its own checkpoints."""
    where = config.model.checkpoint
    if where is None or (config.run_dir is not None and any(RunDirectory(Path(config.run_dir)).checkpoints.glob("*"))):
        return
    try:
        weights_file(where)
    except UserError as error:
        yield str(error)


def _look_at_tables(config: Config) -> Iterable[str]:
    for name, where in config.tables.items():
        if not where:
            continue  # said already, where it was read
        try:
            table_file(where, name)
        except UserError as error:
            yield str(error)


def no_file(path: Path, wanted: str = "file") -> str:
    """What is wrong with a path that is not that of the file (or folder) wanted, a sentence, with the nearest name."""
    if os.path.exists(path):
        return f"this is {'a directory' if os.path.isdir(path) else 'no regular file'}."
    if os.path.islink(path):
        return f"this links to {os.readlink(path)}, which is not there."
    return f"there is no such {wanted}.{nearest_file(path)}"


def nearest_file(path: Path) -> str:
    """A file beside it of a name like it; or the first directory on the way that is not there."""
    missing = next((parent for parent in reversed(path.parents) if not os.path.exists(parent)), None)
    if missing is not None:
        return f" There is no {missing}."
    if not os.path.isdir(path.parent) or not os.access(path.parent, os.R_OK):
        return ""
    return nearest(path.name, [name for name in os.listdir(path.parent) if name != path.name])
