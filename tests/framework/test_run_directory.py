import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poise.config import compose, to_yaml
from poise.data.dataset import Arrays
from poise.data.identity import identity_of
from poise.errors import UserError
from poise.run_directory import RunDirectory, default_path, logged
from small_runs import rows, small_fit, splits


def written(**changes: object) -> str:
    return to_yaml(compose(changes))


def test_a_directory_that_is_free_is_claimed(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "some" / "run")
    directory.check(written(), resume=False)
    assert not directory.path.exists()
    directory.claim(written())
    assert directory.config.read_text() == written()
    assert not directory.finished


def test_a_run_is_continued_only_as_it_was(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.claim(written(seed=1))
    directory.check(written(seed=1), resume=True)
    with pytest.raises(UserError, match="holds a run already: resume=auto continues it"):
        directory.check(written(seed=1), resume=False)
    changed = written(seed=2, optimizer={"lr": 0.3}, recipe="label_smoothing")
    with pytest.raises(UserError, match=r"optimizer\.lr was 0\.1, now 0\.3;.*recipe.*seed was 1, now 2"):
        directory.check(changed, resume=True)


def test_what_changes_no_number_may_change(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.claim(written(seed=1, run_dir="here"))
    trainer = {"progress": False, "checkpoint_every": 7, "devices": 2}
    directory.check(written(seed=1, run_dir="there", strategy="deepspeed_zero3", trainer=trainer), resume=True)


def test_other_peoples_directories_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match=r"is not a run's: it holds thesis\.tex; name another directory"):
        RunDirectory(tmp_path).check(written(), resume=True)
    with pytest.raises(UserError, match="is a file"):
        RunDirectory(tmp_path / "thesis.tex").check(written(), resume=True)
    with pytest.raises(UserError, match=r"run_dir=.*cannot be written: Not a directory"):
        RunDirectory(tmp_path / "thesis.tex" / "run").claim(written())


def test_a_report_says_that_a_run_is_over(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.write_report({"test/ece": 0.25})
    assert directory.finished
    assert directory.metrics() == json.loads((tmp_path / "report.json").read_text()) == {"test/ece": 0.25}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json"]


def test_default_paths_carry_the_stack_and_are_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = []
    for _ in range(3):
        path = default_path(("trades", "module:Mine"))
        path.mkdir(parents=True)
        paths.append(path)
    assert len(set(paths)) == 3
    assert all(path.parent.name == "runs" and "trades-module-Mine" in path.name for path in paths)
    assert default_path(()).name.endswith("-plain")


def test_the_log_takes_what_the_run_says_and_no_more(tmp_path: Path) -> None:
    path, log = tmp_path / "log.txt", logging.getLogger("poise")
    level = log.level
    with logged(path):
        log.info("best epoch: 3")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("something is odd", stacklevel=1)
    log.warning("afterwards")
    text = path.read_text()
    assert "INFO best epoch: 3" in text
    assert "something is odd" in text
    assert "afterwards" not in text
    assert log.level == level


def test_a_run_does_not_go_on_with_other_data(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    began = identity_of(splits())
    directory.check_data(began)
    directory.keep_data(began)
    directory.check_data(identity_of(splits()))
    fewer = splits(train=rows(60, 0))
    others = splits(val=rows(24, 5))
    renamed = replace(splits(), class_names=("c", "b", "a"))
    for changed, said in (
        (fewer, "train had 68 examples and has 60"),
        (others, "val holds other examples"),
        (renamed, "the classes were a, b, c and are c, b, a"),
    ):
        with pytest.raises(UserError, match=f"holds a run on other data: {said}"):
            directory.check_data(identity_of(changed))


@given(st.integers(0, 67), st.sampled_from(["label", "group"]))
def test_any_other_label_or_group_is_another_identity(row: int, field: str) -> None:
    changed = splits()
    kept = getattr(changed.train, field)
    kept[row] = 1 - kept[row].clamp(max=1)
    assert identity_of(changed) != identity_of(splits())


def test_inputs_of_any_kind_have_an_identity() -> None:
    for dtype in (torch.float64, torch.bfloat16, torch.uint8):
        train = rows(68, 0)
        x = (255 * train.x).to(dtype) if dtype == torch.uint8 else train.x.to(dtype)
        assert identity_of(splits(train=Arrays(x, train.label, train.group)))["splits"]["train"]["examples"] == 68


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '{"test/accuracy": "x"}', "[" * 100_000])
def test_a_damaged_report_is_named_with_the_way_out(text: str, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.report.write_text(text)
    with pytest.raises(
        UserError, match=r"report\.json is damaged: .*; bring it back, or delete it: the run then goes on"
    ):
        directory.metrics()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"\xff", b'{"classes": 3, "splits": {}}', b'{"classes": [], "splits": {"train": 1}}']
)
def test_damaged_data_are_named_with_the_way_out(content: bytes, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.data.write_bytes(content)
    with pytest.raises(UserError, match=r"data\.json is damaged: .*; bring it back, or delete it to go on without"):
        directory.check_data(identity_of(splits()))


@pytest.mark.parametrize("content", [b"", b"[", b"a: [", b"\xff\xfe", b"5", b"[" * 100_000])
def test_a_damaged_config_is_named_with_the_way_out(content: bytes, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.config.write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml is damaged: .*; bring it back, or name another run_dir$"):
        directory.check(written(), resume=True)


def test_of_many_changes_the_first_few_are_told(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.claim("seed: 0\n")
    with pytest.raises(UserError, match=r"(?:[\w.]+ was not there, now [^;]*; ){8}and \d+ more\)"):
        directory.check(written(), resume=True)


@pytest.mark.parametrize("name", ["checkpoints", "predictor", "tables", "logs"])
def test_a_file_where_a_run_has_a_directory_is_said_at_the_start(name: str, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.claim(written())
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=f"{name} is no directory, as in a run's directory: move it away"):
        directory.check(written(), resume=True)


@pytest.mark.parametrize("name", ["config.yaml", "data.json", "report.json", "curves.jsonl", "log.txt"])
def test_a_directory_where_a_run_has_a_file_is_said_at_the_start(name: str, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    if name != "config.yaml":
        directory.claim(written())
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=rf"{name} is no file, as in a run's directory: move it away"):
        directory.check(written(), resume=True)


def test_a_resumed_run_refuses_data_that_have_changed(tmp_path: Path) -> None:
    small_fit(tmp_path / "run", trainer={"max_steps": 5, "max_epochs": 3})
    (tmp_path / "run/report.json").unlink()
    with pytest.raises(UserError, match="train had 68 examples and has 64"):
        small_fit(tmp_path / "run", trainer={"max_steps": 5, "max_epochs": 3}, data=splits(train=rows(64, 0)))
