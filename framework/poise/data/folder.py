"""A folder of pictures as the splits of a problem."""

import logging
from collections.abc import Mapping
from pathlib import Path

import torch

from poise.data.cache import read_pictures
from poise.data.dataset import Arrays, Splits
from poise.data.decoding import Gallery
from poise.data.listing import OOD, SHIFTS, SPLITS, UNLABELLED, Listing
from poise.data.partition import stratified
from poise.data.picture_files import Form
from poise.data.stored import rows
from poise.errors import UserError
from poise.files.pictures import EXTENSIONS
from poise.files.shown import listed
from poise.launching import speaks

log = logging.getLogger("poise")


def folder_at(path: str) -> Path:
    """The folder that `data.path` names, links followed.

    Raises:
        UserError: there is none.
    """
    if not path:
        raise UserError("data.path= is empty: give the folder that holds the pictures.")
    folder = Path(path)
    if not folder.is_dir():
        wrong = "this is a file" if folder.exists() else "there is no such folder"
        raise UserError(f"data.path={path}: {wrong}: give the folder that holds the pictures.")
    return folder.resolve()


def load_folder(
    listing: Listing, form: Form, cache: str | None, limit: float, shares: Mapping[str, float], seed: int
) -> Splits:
    """The pictures that are listed, [N, C, H, W] in uint8, stored in one place whose rows the splits are views of.

    Args:
        listing: of the folder.
        form: of every picture.
        cache: directory of caches, or None for the user's.
        limit: of the cache, in GB.
        shares: name -> share of the training pictures that becomes a split where the folder has none of it.
        seed: keys the shares.

    Raises:
        UserError: pictures that cannot be read, or of several sizes; nothing to train or test on; a directory of caches
            that lies in the folder.
    """
    parts = load_parts(listing, form, cache, limit)
    missing = {name: share for name, share in shares.items() if name not in parts}
    if "train" in parts and missing:
        train = parts["train"]
        parts |= {name: train.rows(chosen) for name, chosen in stratified(train.label, missing, seed).items()}
    if "test" not in parts:
        raise UserError(f"{listing.folder} has pictures neither to train nor to test on.")
    parts = dict.fromkeys(SPLITS, parts["test"].none()) | parts
    return Splits(
        train=parts["train"],
        val=parts["val"],
        calibration=parts["calibration"],
        test=parts["test"],
        num_classes=len(listing.class_names),
        class_names=listing.class_names,
        group_names=listing.group_names,
        streams={UNLABELLED: parts[UNLABELLED]} if UNLABELLED in parts else {},
        shifts=_named(parts, SHIFTS),
        ood=_named(parts, OOD),
    )


def load_parts(listing: Listing, form: Form, cache: str | None, limit: float) -> dict[str, Arrays]:
    """The pictures of each part of a listing; arguments and errors as of `load_folder`."""
    if cache is not None and Path(cache).resolve().is_relative_to(listing.folder.resolve()):
        raise UserError(
            f"data.cache={cache} lies in {listing.folder}, whose folders are classes or splits: give a directory "
            "elsewhere."
        )
    _tell_left_out(listing)
    files = [file for part in listing.parts.values() for file in part.files]
    if not files:
        raise UserError(f"{listing.folder} holds no pictures.")
    pictures = read_pictures(Gallery(listing.folder, files, form), None if cache is None else Path(cache), limit)
    found, start = {}, 0
    for name, part in listing.parts.items():
        end = start + len(part.files)
        found[name] = Arrays(rows(pictures, torch.arange(start, end)), part.label, part.group)
        start = end
    return found


def _tell_left_out(listing: Listing) -> None:
    """Pictures of a kind that is not read would be missed by nobody until results are odd."""
    others = [name for part in listing.parts.values() for name in part.left_out]
    if not others:
        return
    kinds = sorted({Path(name).suffix.lower().removeprefix(".") or "no ending" for name in others})
    tell = log.warning if speaks() else log.info  # once for a run, not for each of its ranks
    tell(
        "files of other kinds in the folders of %s are left out: %d (%s); pictures are %s",
        listing.folder,
        len(others),
        listed(kinds),
        ", ".join(EXTENSIONS),
    )


def _named(parts: Mapping[str, Arrays], kind: str) -> dict[str, Arrays]:
    return {name.removeprefix(f"{kind}."): part for name, part in parts.items() if name.startswith(f"{kind}.")}
