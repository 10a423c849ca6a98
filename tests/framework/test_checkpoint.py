import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from damage import damaged, edited
from poise import checkpoint
from poise.distributed import Ranks, current_ranks
from poise.errors import UserError
from ranks import Pair


def save_file(path: Path) -> None:
    torch.save({"weight": torch.arange(100.0)}, path)


def save_folder(path: Path) -> None:
    """As DeepSpeed does: every rank writes its shard."""
    path.mkdir(exist_ok=True)
    torch.save(torch.tensor(current_ranks().rank), path / f"shard-{current_ranks().rank}.pt")


def put(directory: Path, step: int = 1, save: Callable[[Path], object] = save_file, **facts: Any) -> None:
    delta = torch.full((2, 3), float(step))
    checkpoint.write(directory, Ranks(), save, {"free_at": {"delta": delta}}, {"step": step, **facts})


def write_on_all(directory: str, breaking: bool = False) -> str:
    ranks = current_ranks()

    def save(path: Path) -> None:
        if breaking and ranks.rank == 1:
            raise OSError("No space left on device")
        save_folder(path)

    try:
        checkpoint.write(Path(directory), ranks, save, {"rank": torch.tensor(ranks.rank)}, {"step": 3})
    except (OSError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "written"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    put(tmp_path / "deep" / "a", step=7, metrics={"val/accuracy": 0.5})
    manifest = checkpoint.read(tmp_path / "deep" / "a")
    assert manifest.facts == {"step": 7, "metrics": {"val/accuracy": 0.5}}
    assert manifest.ranks == 1
    assert torch.equal(torch.load(manifest.state)["weight"], torch.arange(100.0))
    assert torch.equal(checkpoint.rank_state(manifest, 0)["free_at"]["delta"], torch.full((2, 3), 7.0))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a"]


def test_a_checkpoint_of_the_same_name_is_replaced(tmp_path: Path) -> None:
    put(tmp_path / "last", step=1)
    (tmp_path / "last.partial").mkdir()
    (tmp_path / "last.partial" / "leftover").write_text("of a killed run")
    put(tmp_path / "last", step=2)
    assert checkpoint.read(tmp_path / "last").facts["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_ranks_write_one_checkpoint_together(pair: Pair, tmp_path: Path) -> None:
    assert pair.run(write_on_all, str(tmp_path / "both")) == ["written"] * 2
    manifest = checkpoint.read(tmp_path / "both")
    assert manifest.ranks == 2
    assert sorted(path.name for path in manifest.state.iterdir()) == ["shard-0.pt", "shard-1.pt"]
    assert [int(checkpoint.rank_state(manifest, rank)["rank"]) for rank in (0, 1)] == [0, 1]
    with pytest.raises(UserError, match="written by 2 ranks and holds nothing for rank 2"):
        checkpoint.rank_state(manifest, 2)


def test_a_rank_that_cannot_write_stops_all_and_spoils_nothing(pair: Pair, tmp_path: Path) -> None:
    target = tmp_path / "last"
    pair.run(write_on_all, str(target))
    before = (target / "manifest.json").read_text()
    first, second = pair.run(write_on_all, str(target), breaking=True)
    assert first == f"RuntimeError: the checkpoint {target} was not written: rank 1 failed"
    assert second == "OSError: No space left on device"
    assert (target / "manifest.json").read_text() == before
    assert checkpoint.read(target).facts["step"] == 3


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["state", "rank-0.pt"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut, "bytes instead of"), (flip, "its checksum differs"), (Path.unlink, "is missing")],
)
def test_damage_is_found_and_named(tmp_path: Path, name: str, damage: Callable[[Path], None], message: str) -> None:
    put(tmp_path / "a")
    damage(tmp_path / "a" / name)
    with pytest.raises(UserError, match=f"checkpoint {tmp_path}/a is damaged: {name}.*{message}"):
        checkpoint.read(tmp_path / "a")


def test_a_manifest_is_not_believed_blindly(tmp_path: Path) -> None:
    put(tmp_path / "a")
    path = tmp_path / "a" / "manifest.json"
    good = path.read_text()
    path.write_text(good.replace('"step": 1', '"step": 2'))
    with pytest.raises(UserError, match="manifest.json was changed"):
        checkpoint.read(tmp_path / "a")
    path.write_text(good[:40])
    with pytest.raises(UserError, match="manifest.json cannot be read"):
        checkpoint.read(tmp_path / "a")
    path.write_text(json.dumps({**json.loads(good), "format": 9}))
    with pytest.raises(UserError, match="has format 9; this version of poise reads format 1"):
        checkpoint.read(tmp_path / "a")
    path.write_text(good)
    (tmp_path / "a" / "planted.pt").write_text("x")
    with pytest.raises(UserError, match="planted.pt is not listed"):
        checkpoint.read(tmp_path / "a")
    with pytest.raises(UserError, match="b is not a whole checkpoint: it has no manifest.json"):
        checkpoint.read(tmp_path / "b")


def test_newest_is_the_last_whole_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert checkpoint.newest(tmp_path / "nowhere") is None
    for step in (9, 10, 11, 100):
        put(tmp_path / f"step-{step}", step=step)
    flip(tmp_path / "step-100" / "state")
    cut(tmp_path / "step-11" / "manifest.json")
    (tmp_path / "step-200.partial").mkdir()
    with caplog.at_level(logging.WARNING):
        manifest = checkpoint.newest(tmp_path)
    assert manifest is not None
    assert manifest.directory == tmp_path / "step-10"
    skipped = caplog.text
    for name in ("step-100 is damaged", "step-11 is damaged", "step-200.partial was not finished"):
        assert name in skipped


def test_one_that_is_removed_is_none_and_what_a_kill_leaves_of_it_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (1, 2, 3):
        put(tmp_path / f"step-{step}", step=step)
    checkpoint.remove(tmp_path / "step-3")
    (tmp_path / "step-2").rename(tmp_path / "step-2.removed")
    newest = checkpoint.newest(tmp_path)
    assert newest is not None
    assert newest.directory.name == "step-1"
    assert checkpoint.glance(tmp_path / "step-2.removed") is None
    assert caplog.text == ""
    checkpoint.remove(tmp_path / "step-2.removed")
    assert [path.name for path in tmp_path.iterdir()] == ["step-1"]


def test_damage_anywhere_is_one_line_and_the_one_before_is_taken(tmp_path: Path) -> None:
    for step in (1, 2):
        put(tmp_path / f"step-{step}", step=step, score=0.5)
    files, random = sorted((tmp_path / "step-2").iterdir()), Random(3)
    assert len(files) == 3
    for number in range(200):
        file = files[number % 3]
        whole = file.read_bytes()
        file.write_bytes(damaged(whole, random))
        manifest = checkpoint.newest(tmp_path)
        assert manifest is not None
        if file.read_bytes() != whole and not same_content(file, whole):
            assert manifest.directory.name == "step-1"
            with pytest.raises(UserError) as raised:
                checkpoint.read(tmp_path / "step-2")
            assert str(raised.value).isprintable()
        file.write_bytes(whole)
    assert checkpoint.newest(tmp_path).directory.name == "step-2"  # type: ignore[union-attr]


def same_content(file: Path, whole: bytes) -> bool:
    """Whether a damaged manifest says the same: of a blank more or less nothing hangs."""
    try:
        return bool(json.loads(file.read_bytes()) == json.loads(whole))
    except ValueError:
        return False


def test_a_manifest_that_says_something_else_under_its_own_checksum(tmp_path: Path) -> None:
    for step in (1, 2):
        put(tmp_path / f"step-{step}", step=step, score=0.5)
    path, random = tmp_path / "step-2" / "manifest.json", Random(4)
    whole, taken = path.read_bytes(), Counter()
    for _ in range(200):
        content = json.loads(edited(whole, random))
        content.pop("sha256", None)
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps({**content, "sha256": digest}))
        manifest = checkpoint.newest(tmp_path)
        assert manifest is not None
        taken[manifest.directory.name] += 1
        for rank in range(manifest.ranks):
            assert checkpoint.rank_state(manifest, rank)["free_at"]["delta"].shape == (2, 3)
    assert taken["step-1"] > 100


def test_what_could_not_be_loaded_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"per_rank\['recipe'\]\[1\] is a set"):
        checkpoint.write(tmp_path / "a", Ranks(), save_file, {"recipe": [1, {2}]}, {"step": 1})
    with pytest.raises(ValueError, match="need the step"):
        checkpoint.write(tmp_path / "a", Ranks(), save_file, None, {})
    assert not (tmp_path / "a").exists()
