"""The spool: nothing twice, nothing torn, nothing without bound."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.tracking import spool as module
from poise.tracking.records import Record
from poise.tracking.spool import Spool


def drain(spool: Spool) -> list[Record]:
    """All that waits, crossed off."""
    found: list[Record] = []
    while True:
        records, end = spool.chunk()
        if end == spool.state.sent:
            return found
        found += records
        spool.cross_off(records, end)


def test_what_is_appended_comes_out_in_order_and_once(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.mark("RUNNING")
    spool.metrics({"a": 1.0, "b": float("nan")}, 1)
    spool.artifact("report.txt", "accuracy")
    first, second, third = drain(spool)
    assert first["status"] == "RUNNING"
    assert (second["step"], second["metrics"]["a"]) == (1, 1.0)
    assert third == {"artifact": "report.txt"}
    assert (tmp_path / "artifacts" / "report.txt").read_text() == "accuracy"
    assert drain(spool) == []
    assert spool.unsent == 0
    spool.close()


def test_a_file_is_found_again_where_the_run_was_moved_to(tmp_path: Path) -> None:
    (tmp_path / "before" / "figures").mkdir(parents=True)
    (tmp_path / "before" / "figures" / "one.png").write_bytes(b"one")
    spool = Spool(tmp_path / "before" / "tracking")
    spool.file("figures/one.png", tmp_path / "before" / "figures" / "one.png")
    spool.close()
    (tmp_path / "before").rename(tmp_path / "after")
    spool = Spool(tmp_path / "after" / "tracking")
    (record,) = drain(spool)
    assert record["artifact"] == "figures/one.png"
    assert spool.path_of(record["file"]).read_bytes() == b"one"
    spool.close()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.booleans(), st.booleans()), max_size=30))
def test_a_step_is_spooled_once_however_often_a_run_stops_and_sends(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, int, bool, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool, found, last = Spool(folder), list[Record](), dict[str, int]()
    expected = []
    for name, step, sends, stops in calls:
        spool.metrics({name: 0.0}, step)
        if step > last.get(name, -1):
            expected.append((name, step))
            last[name] = step
        if sends:
            found += drain(spool)
            spool.compact(0)
        if stops:
            spool.close()
            spool = Spool(folder)
    found += drain(spool)
    spool.close()
    assert [(next(iter(record["metrics"])), record["step"]) for record in found] == expected


def test_a_line_that_a_kill_has_torn_is_dropped_and_its_step_taken_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.metrics({"a": 1.0}, 1)
    spool.metrics({"a": 2.0}, 2)
    spool.close()
    path = tmp_path / "spool.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    spool = Spool(tmp_path)
    spool.metrics({"a": 3.0}, 2)
    assert [record["metrics"]["a"] for record in drain(spool)] == [1.0, 3.0]
    spool.close()


def test_a_kill_between_emptying_and_remembering_it_loses_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.metrics({"a": 1.0}, 1)
    drain(spool)
    spool.close()
    (tmp_path / "spool.jsonl").write_bytes(b"")
    spool = Spool(tmp_path)
    spool.metrics({"a": 2.0}, 2)
    assert [record["step"] for record in drain(spool)] == [2]
    spool.close()


def test_a_line_spoilt_by_the_disk_is_skipped(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.metrics({"a": 1.0}, 1)
    spool.close()
    path = tmp_path / "spool.jsonl"
    path.write_bytes(b"\0\0\0\n[]\n" + path.read_bytes())
    spool = Spool(tmp_path)
    assert [record["step"] for record in drain(spool)] == [1]
    spool.close()


DAMAGED = [
    b"\0\0\0",
    b"[]",
    b"[" * 100_000,
    b'{"time":null}',
    b'{"metrics":5}',
    b'{"metrics":{"a":1}}',
    b'{"metrics":{"a":1},"step":1}',
    b'{"metrics":{"a":true},"step":1,"time":1}',
    b'{"metrics":{"a":1},"step":100000000000000000000000,"time":1}',
    b'{"metrics":{"a":1},"step":1,"time":1,"status":"FINISHED"}',
    b'{"tags":5}',
    b'{"tags":{"a":1}}',
    b'{"tags":{"\\ud800":"a"}}',
    b'{"model":5}',
    b'{"artifact":5}',
    b'{"artifact":"a","file":5}',
    b'{"values":{"a":1},"time":1}',
    b'{"inputs":[5]}',
    b'{"status":"STRANGE","time":1}',
]


def test_lines_that_say_nothing_are_said_to_be_lost_and_hold_up_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path)
    spool.metrics({"a": 1.0}, 1)
    spool.close()
    path = tmp_path / "spool.jsonl"
    path.write_bytes(path.read_bytes() + b"\n".join(DAMAGED) + b"\n" + path.read_bytes().replace(b":1,", b":2,"))
    spool = Spool(tmp_path)
    assert [record["step"] for record in drain(spool)] == [1, 2]
    assert spool.state.last == {"a": 2}
    assert caplog.messages == [f"Tracking: {path} is damaged: {len(DAMAGED)} lines of it cannot be sent."]
    spool.close()


def test_a_damaged_line_may_be_longer_than_a_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 1000)
    (tmp_path / "spool.jsonl").write_bytes(b"\0" * 3000 + b"\n")
    spool = Spool(tmp_path)
    spool.metrics({"a": 1.0}, 1)
    assert [record["step"] for record in drain(spool)] == [1]
    assert spool.unsent == 0
    spool.close()


def test_all_that_a_run_appends_is_taken_for_a_record(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.metrics({"a": float("nan"), "b": float("-inf"), "c": 1.0}, 0)
    spool.artifact("report.txt", "accuracy")
    spool.file("one.png", tmp_path / "one.png")
    spool.model(tmp_path / "predictor")
    spool.values({"a": 1.0}, 1, {"name": "digits", "digest": "d"})
    spool.inputs([{"name": "digits", "context": "train"}])
    spool.tags({"a": "ä 😀"})
    spool.mark("SCHEDULED")
    assert len(drain(spool)) == (tmp_path / "spool.jsonl").read_bytes().count(b"\n") == 8
    spool.close()


def test_a_full_spool_drops_metrics_and_nothing_else(tmp_path: Path) -> None:
    spool = Spool(tmp_path, limit=500)
    for step in range(50):
        spool.metrics({"a": 0.0}, step)
    spool.artifact("report.txt", "")
    spool.mark("FINISHED")
    kept = drain(spool)
    assert spool.dropped == 50 - sum("metrics" in record for record in kept) > 0
    assert [record for record in kept if "metrics" not in record][-1]["status"] == "FINISHED"
    spool.compact(0)
    spool.metrics({"a": 0.0}, 100)
    assert len(drain(spool)) == 1
    spool.close()


def test_the_writer_takes_a_chunk_at_a_time_of_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 40_000)
    spool = Spool(tmp_path)
    for step in range(10):
        spool.metrics({f"{'name' * 10}{i}": 0.5 for i in range(450)}, step)
    records, _ = spool.chunk()
    assert 1 <= len(records) < 30
    values = sum(len(record["metrics"]) for record in drain(spool))
    assert values == 4500
    spool.close()


def test_a_spool_is_emptied_once_it_is_sent_and_large(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.metrics({"a": 0.0}, 1)
    drain(spool)
    spool.compact(10_000)
    assert (tmp_path / "spool.jsonl").stat().st_size > 0
    spool.metrics({"a": 0.0}, 2)
    spool.compact(0)
    assert spool.unsent > 0
    drain(spool)
    spool.compact(0)
    assert (tmp_path / "spool.jsonl").stat().st_size == spool.unsent == 0
    spool.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"strange": 1}', "[" * 100_000])
def test_a_spoilt_state_starts_afresh(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    spool = Spool(tmp_path)
    assert (spool.state.sent, spool.state.run_id) == (0, None)
    spool.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [("started", "x"), ("uri", 5), ("sent", "x"), ("sent", -1), ("last", {"a": None}), ("tags", []), ("status", [])],
)
def test_of_a_damaged_state_what_is_right_is_kept(
    tmp_path: Path, name: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path)
    spool.state.run_id = "f" * 32
    spool.save()
    spool.close()
    whole = json.loads((tmp_path / "state.json").read_text())
    (tmp_path / "state.json").write_text(json.dumps({**whole, name: value}))
    spool = Spool(tmp_path)
    kept = {field: value for field, value in asdict(spool.state).items() if field != name}
    assert kept == {field: value for field, value in whole.items() if field != name}
    assert getattr(spool.state, name) != value
    assert caplog.messages == [f"Tracking: {tmp_path / 'state.json'} is damaged; what begins anew: {name}."]
    spool.close()
