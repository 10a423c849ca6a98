"""Files that would run code as they are read: none of them does, each is refused in one line."""

import os
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from poise import checkpoint
from poise.distributed import Ranks
from poise.errors import UserError
from poise.state_file import StateFile, read_state


class Planted:
    """Makes a file called `ran` when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


STACK_GLOBAL, TUPLE1, REDUCE = b"\x93", b"\x85", b"R"
COMMAND = b"\x8c\x09touch ran"
PICKLES = {
    "by its name": pickle.dumps({"state": Planted()}, 2),
    "by names from the stack": pickle.dumps({"state": Planted()}, 4),
    "by names from the memo": b"\x80\x04\x8c\x02os\x940\x8c\x06system\x940h\x00h\x01"
    + STACK_GLOBAL + COMMAND + TUPLE1 + REDUCE + b".",
    "through getattr": b"\x80\x02cbuiltins\ngetattr\ncos\n__dict__\nX\x06\x00\x00\x00system\x86R"
    + b"X\x09\x00\x00\x00touch ran" + TUPLE1 + REDUCE + b".",
    "by a name that leads on": b"\x80\x04\x8c\x05torch\x8c\x09os.system"
    + STACK_GLOBAL + COMMAND + TUPLE1 + REDUCE + b".",
}  # fmt: skip


def archive(path: Path, data: bytes, *others: tuple[str, bytes]) -> Path:
    """A file of `torch.save`'s form around a pickle."""
    with zipfile.ZipFile(path, "w") as file:
        for name, content in (("data.pkl", data), ("version", b"3\n"), ("byteorder", b"little"), *others):
            file.writestr(f"state/{name}", content)
    return path


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol 4")
@pytest.mark.parametrize("data", PICKLES.values(), ids=list(PICKLES))
def test_what_would_run_code_is_not_read(data: bytes) -> None:
    path = archive(Path("state"), data)
    for read in (read_state, StateFile().load_checkpoint):
        with pytest.raises(
            UserError, match=r"^state is not read, for reading could run code: it .*checkpoint\.$"
        ) as said:
            read(path)
        assert "\n" not in str(said.value)
    assert not Path("ran").exists()


def test_the_name_that_is_asked_for_is_said() -> None:
    with pytest.raises(UserError, match=re.escape(f"it asks for {os.system.__module__}.system. Remove")):
        read_state(archive(Path("state"), PICKLES["by its name"]))


def test_the_form_before_archives_is_no_way_around() -> None:
    torch.save({"state": Planted()}, "state", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match="could run code"):
        read_state(Path("state"))
    assert not Path("ran").exists()


def test_a_pickle_inside_is_bytes_and_remains_so() -> None:
    inner = pickle.dumps(Planted())
    path = archive(Path("state"), pickle.dumps({"state": inner}, 2), ("inner.pkl", inner))
    assert read_state(path) == {"state": inner}
    assert not Path("ran").exists()


def test_what_a_rank_kept_is_read_the_same_way() -> None:
    checkpoint.write(Path("step-1"), Ranks(), lambda path: path.write_bytes(b""), {"delta": torch.ones(2)}, {"step": 1})
    manifest = checkpoint.read(Path("step-1"))
    assert torch.equal(checkpoint.rank_state(manifest, 0)["delta"], torch.ones(2))
    archive(Path("step-1/rank-0.pt"), PICKLES["by its name"])
    with pytest.raises(UserError, match=r"step-1/rank-0\.pt is not read"):
        checkpoint.rank_state(manifest, 0)


def test_deepspeeds_own_shards_are_not_taken_up() -> None:
    Path("state").mkdir()
    archive(Path("state/mp_rank_00_model_states.pt"), PICKLES["by its name"])
    with pytest.raises(UserError, match=r"^state holds DeepSpeed's own shards, which are not read.*another run_dir$"):
        StateFile().load_checkpoint("state")
    assert not Path("ran").exists()


@pytest.mark.parametrize("data", [b"", b"hello world", b"PK\x05\x06" + b"\0" * 18])
def test_what_is_no_file_of_tensors_is_said_to_be_none(data: bytes) -> None:
    Path("state").write_bytes(data)
    with pytest.raises(
        UserError,
        match=r"^state is (whole, and yet no state of a training: remove|not read, .* Remove) that checkpoint\.$",
    ):
        read_state(Path("state"))


def test_a_state_without_a_trainings_parts_is_not_taken_up() -> None:
    for state in ({}, {"loops": {}}, [1]):
        torch.save(state, "state")
        with pytest.raises(UserError, match="^state is whole, and yet no state of a training"):
            StateFile().load_checkpoint("state")
