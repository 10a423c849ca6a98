from pathlib import Path

import numpy as np
import pytest
import torch

from poise.errors import UserError
from poise.tables import read_table, write_table


def test_a_table_comes_back_from_its_file_and_from_its_run(tmp_path: Path) -> None:
    table = torch.rand(5, 2, dtype=torch.float64)
    write_table(tmp_path / "tables", "errors", table)
    assert torch.equal(read_table(str(tmp_path), "errors"), table)
    assert torch.equal(read_table(str(tmp_path / "tables" / "errors.npy"), "another_name"), table)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "tables", "errors", torch.ones(3))
    with pytest.raises(UserError, match=r"tables\.eror=.*made no such table, only errors\. Did you mean 'errors'\?"):
        read_table(str(tmp_path), "eror")
    with pytest.raises(UserError, match="there is no such file or run"):
        read_table(str(tmp_path / "nowhere"), "errors")
    (tmp_path / "text.npy").write_text("not an array")
    with pytest.raises(UserError, match="is not a table"):
        read_table(str(tmp_path / "text.npy"), "errors")
    np.save(tmp_path / "pickled.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(UserError, match="is not a table"):
        read_table(str(tmp_path / "pickled.npy"), "errors")
