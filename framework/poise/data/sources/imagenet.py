"""ImageNet, as it is unpacked."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Gt, Lt

from poise.data.dataset import Splits
from poise.data.folder import folder_at, load_folder
from poise.data.listing import Listing, list_splits
from poise.data.picture_files import Form
from poise.data.source import DataSource
from poise.data.stand_in import sizes_of, stand_in
from poise.errors import UserError

INSIDE = "ILSVRC/Data/CLS-LOC"  # of what Kaggle gives, with the names of classes beside ILSVRC
WORDS = ("LOC_synset_mapping.txt", "classes.txt")


class Imagenet(DataSource):
    """ImageNet's folders `train/WNID` and `val/WNID`, whose pictures are the test split; x is [N, 3, H, W] in uint8.

    The layout that torchvision's ImageNet unpacks, or any with folders of classes in these two; val and calibration
    are shares of train, every class alike. Classes are numbered in the order of their folders' names. They are called
    by the words in LOC_synset_mapping.txt or classes.txt (lines such as `n01440764 tench, Tinca tinca`), else like the
    folders.

    O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015, arXiv 1409.0575.

    Pictures are resized and cut once, as they are commonly tested, into the cache of image_folder; random crops in
    training are taken of that square and not of the whole picture. At 224 pixels all of ImageNet takes 200 GB.

    Args:
        path: of the folder that holds train and val, or of Kaggle's, which holds ILSVRC.
        size: height and width of the square that is cut out of the centre.
        resize: length that the shorter side is brought to before.
        val: share of the training pictures that choose the model.
        calibration: share of the training pictures that fits calibrators.
        cache: directory of caches; None is poise/pictures in the user's cache directory.
        cache_limit: GB; pictures that would take more are decoded at every reading.
    """

    files: ClassVar[frozenset[str]] = frozenset({"path"})
    folders: ClassVar[frozenset[str]] = frozenset({"path"})
    published: ClassVar[tuple[int, int, int] | None] = (1000, 1_281_167, 50_000)
    augment: ClassVar[tuple[str, ...]] = ("random_resized_crop", "flip")

    def __init__(
        self,
        path: str,
        size: Annotated[int, Ge(1)] = 224,
        resize: Annotated[int, Ge(1)] = 256,
        val: Annotated[float, Gt(0), Lt(1)] = 0.02,
        calibration: Annotated[float, Gt(0), Lt(1)] = 0.02,
        cache: str | None = None,
        cache_limit: Annotated[float, Ge(0)] = 64.0,
    ) -> None:
        self.path = path
        self.size = size
        self.resize = resize
        self.val = val
        self.calibration = calibration
        self.cache = cache
        self.cache_limit = cache_limit

    def load(self, seed: int) -> Splits:
        """The folder's pictures.

        Raises:
            UserError: no such folder or layout, a square larger than what it is cut out of, unreadable pictures.
        """
        if self.resize < self.size:
            raise UserError(f"data.resize={self.resize} leaves no square of data.size={self.size}: give as much.")
        given = folder_at(self.path)
        folder = given / INSIDE if (given / INSIDE).is_dir() else given
        places = {split: place for split, place in (("train", "train"), ("test", "val")) if (folder / place).is_dir()}
        if "test" not in places:
            raise UserError(f"{folder} holds no folder val: unpack ImageNet there, as torchvision does it.")
        folders, parts = list_splits(folder, places)
        listing = Listing(folder, parts, _class_names(given, folders))
        shares = {"val": self.val, "calibration": self.calibration}
        return load_folder(listing, Form(3, self.size, self.resize), self.cache, self.cache_limit, shares, seed)

    def stand_in(self) -> Splits | None:
        """Splits of the published sizes."""
        if self.published is None:
            return None
        classes, train, test = self.published
        return stand_in((3, self.size, self.size), classes, sizes_of(train, test, self.val, self.calibration))


def _class_names(folder: Path, folders: Sequence[str]) -> tuple[str, ...]:
    """What the classes are called: by the first of their words, with the folder's name where two have the same."""
    file = next((folder / name for name in WORDS if (folder / name).is_file()), None)
    if file is None:
        return tuple(folders)
    try:
        lines = [line.split(maxsplit=1) for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is no text in UTF-8 ({error}): save it as that, or move it away.") from error
    words = {line[0]: line[1].split(",")[0].strip() for line in lines if len(line) == 2}
    missing = next((name for name in folders if not words.get(name)), None)
    if missing is not None:
        raise UserError(f"{file} has no line for the class {missing}: give each folder's name and its words.")
    count = Counter(words[name] for name in folders)
    return tuple(words[name] if count[words[name]] == 1 else f"{words[name]} ({name})" for name in folders)
