"""How much a list of pictures takes: data of millions are listed by every rank."""

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from poise.data.listing import Listing, list_folders
from poise.data.metadata import list_metadata

FEW, MANY = 2_000, 12_000
CLASSES = 20
NAME = "train/class-{c:02}/picture-{n:08}.jpeg"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Folders of so many empty files, which listing does not look into."""
    made = {count: tmp_path_factory.mktemp(str(count)) for count in (FEW, MANY)}
    for count, folder in made.items():
        for c in range(CLASSES):
            (folder / NAME.format(c=c, n=0)).parent.mkdir(parents=True)
        for n in range(count):
            (folder / NAME.format(c=n % CLASSES, n=n)).touch()
        lines = [f"{NAME.format(c=n % CLASSES, n=n)},{n % CLASSES}" for n in range(count)]
        (folder / "metadata.csv").write_text("\n".join(["file,label", *lines]) + "\n")
    return made


def _bytes_of_a_picture(function: Callable[[Path], Listing], folders: dict[int, Path]) -> tuple[float, float]:
    """What each picture adds to the listing, and to the most that is held while it is made."""
    held, most = {}, {}
    for count, folder in folders.items():
        tracemalloc.start()
        listing = function(folder)
        held[count], most[count] = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert sum(len(part.files) for part in listing.parts.values()) == count
    return (held[MANY] - held[FEW]) / (MANY - FEW), (most[MANY] - most[FEW]) / (MANY - FEW)


def test_pictures_in_folders_are_held_once_while_they_are_listed(folders: dict[int, Path]) -> None:
    name = sys.getsizeof(NAME.format(c=0, n=0))
    held, most = _bytes_of_a_picture(list_folders, folders)
    assert name < held < name + 16  # its name, and a pointer to that; its label is in PyTorch's memory
    assert most < 1.5 * name  # far from its name twice


def test_a_table_of_pictures_leaves_their_names_alone(folders: dict[int, Path]) -> None:
    name = sys.getsizeof(NAME.format(c=0, n=0))
    held, most = _bytes_of_a_picture(list_metadata, folders)
    assert name < held < name + 16
    assert most < 6 * name  # as cells of rows, and once more by place
