"""Per-example tables: what one run says of each training example, for a later one."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from poise.errors import UserError, nearest


def write_table(directory: Path, name: str, table: Shaped[Tensor, "N ..."]) -> None:
    """Write a table [N, …] as `<directory>/<name>.npy`."""
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / f"{name}.npy", table.detach().cpu().numpy(), allow_pickle=False)


def read_table(where: str, name: str) -> Shaped[Tensor, "N ..."]:
    """A table [N, …] from a file, or from the run directory that made one of this name.

    Raises:
        UserError: there is none, or it is no array.
    """
    path = Path(where)
    if path.is_dir():
        made = sorted(file.stem for file in (path / "tables").glob("*.npy"))
        if name not in made:
            known = ", ".join(made) or "none"
            raise UserError(f"tables.{name}={where}: that run made no such table, only {known}.{nearest(name, made)}")
        path = path / "tables" / f"{name}.npy"
    if not path.is_file():
        raise UserError(f"tables.{name}={where}: there is no such file or run")
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"tables.{name}={where}: {path} is not a table: {error}") from error
