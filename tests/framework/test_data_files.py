from pathlib import Path

import pytest

from poise import data_files

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["configs", "launch"])
def test_a_checkout_has_them_at_its_root(name: str) -> None:
    assert data_files.folder(name) == CHECKOUT / name


def test_an_installed_package_has_them_beside_its_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "poise"
    monkeypatch.setattr(data_files, "_PACKAGE", package)
    with pytest.raises(FileNotFoundError, match="poise is installed without its configs"):
        data_files.folder("configs")
    installed = package / "data_files" / "configs"
    installed.mkdir(parents=True)
    (tmp_path / "configs").mkdir()
    assert data_files.folder("configs") == installed
