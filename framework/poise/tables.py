"""Per-example tables: what one run says of each training example, for a later one."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from poise.config.places import table_file
from poise.errors import UserError


def write_table(directory: Path, name: str, table: Shaped[Tensor, "N ..."]) -> None:
    """Write a table [N, …] as `<directory>/<name>.npy`."""
    directory.mkdir(parents=True, exist_ok=True)
    np.save(directory / f"{name}.npy", table.detach().cpu().numpy(), allow_pickle=False)


def read_table(where: str, name: str) -> Shaped[Tensor, "N ..."]:
    """A table [N, …] from a file, or from the run directory that made one of this name.

    Raises:
        UserError: there is none, or it is no array.
    """
    path = table_file(where, name)
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"tables.{name}={where}: {path} is not a table: {error}") from error
