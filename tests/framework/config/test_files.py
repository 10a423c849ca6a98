from typing import Any, Literal, get_args, get_origin

from hypothesis import given, settings
from hypothesis import strategies as st

from poise import registry
from poise.config import compose, from_yaml, parse, to_mapping, to_yaml
from poise.config.schema import ThreatConfig, TrainerConfig
from poise.registry import Record

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
RECORDS = {kind: list(registry.records(kind).values()) for kind in registry.KINDS}


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is list:
        return st.lists(of_type(get_args(hint)[0]), max_size=4)
    if hint in (int, float, str, bool):
        return {int: st.integers(), float: FLOATS, str: st.text(max_size=8), bool: st.booleans()}[hint]
    return st.one_of([st.none() if kind is type(None) else of_type(kind) for kind in get_args(hint)])


def parameters(record: Record) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {p.name: of_type(p.type) for p in record.parameters if p.required},
        optional={p.name: of_type(p.type) for p in record.parameters if not p.required},
    )


@st.composite
def members(draw: st.DrawFn, group: str, kind: str) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(RECORDS[kind]), max_size=3))
    aliases = draw(st.lists(st.from_regex(r"[a-z]{3,8}_[0-9]", fullmatch=True), min_size=3, max_size=3, unique=True))
    members = dict(zip(aliases, chosen, strict=False))
    names = [f"{record.name}@{alias}" for alias, record in members.items()]
    return {group: {"name": names} | {alias: draw(parameters(record)) for alias, record in members.items()}}


@st.composite
def single(draw: st.DrawFn, group: str) -> dict[str, Any]:
    record = draw(st.sampled_from(RECORDS[group]))
    return {group: {"name": record.name} | draw(parameters(record))}


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    values = draw(members("recipe", "recipe"))
    values |= draw(members("evaluation", "evaluator"))
    for group in ("data", "model", "optimizer", "schedule"):
        values |= draw(single(group))
    values["seed"] = draw(st.integers(0, 2**63))
    values["run_dir"] = draw(st.none() | st.text().filter(lambda text: text != "none"))
    values["tables"] = draw(st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), st.text(), max_size=2))
    values["threat"] = {"name": "l2", "eps": draw(st.none() | st.floats(0, 100))}
    values["trainer"] = {"gradient_clip": draw(st.none() | st.floats(1e-6, 1e6)), "progress": draw(st.booleans())}
    return values


@settings(max_examples=30, deadline=None)
@given(runs())
def test_a_config_comes_back_from_its_yaml(values: dict[str, Any]) -> None:
    config = compose(values, checks=())  # of members drawn at random, many contradict each other
    text = to_yaml(config)
    assert from_yaml(text, checks=()) == config
    assert to_yaml(from_yaml(text, checks=())) == text
    assert compose(to_mapping(config), checks=()) == config


@settings(max_examples=30, deadline=None)
@given(single("optimizer"), st.text(), st.floats(0, 1))
def test_a_typed_value_comes_back_from_the_command_line(optimizer: dict[str, Any], run: str, eps: float) -> None:
    values = {f"optimizer.{key}": value for key, value in optimizer["optimizer"].items()}
    values |= {"run_dir": run, "threat.eps": eps}
    said = [
        f"{key}={'none' if value is None else str(value).lower() if isinstance(value, bool) else value}"
        for key, value in values.items()
    ]
    config = parse(said)
    assert config.optimizer.params | optimizer["optimizer"] == {"name": config.optimizer.name} | config.optimizer.params
    assert config.run_dir == (None if run == "none" else run)
    assert config.threat == ThreatConfig("linf", eps)


def test_words_mean_what_they_say() -> None:
    config = from_yaml("run_dir: off\nseed: 010\ntables: {a: 30:00, b: null, c: ~, d: 1e3}\n")
    assert (config.run_dir, config.seed) == ("off", 10)
    assert config.tables == {"a": "30:00", "b": "null", "c": "~", "d": "1e3"}


def test_what_is_written_is_complete_and_readable() -> None:
    text = to_yaml(parse(["recipe=trades", "run_dir=none"]))
    for line in ("  - trades", "  - pgd", "    beta: 6.0", "    start: normal", "  eps: 0.03137254901960784"):
        assert line in text.splitlines()
    assert "run_dir: none" in text
    assert "brought" not in text
    assert from_yaml("") == parse([])


def test_the_block_of_a_run() -> None:
    assert TrainerConfig().block_size == 16
    assert TrainerConfig(batch_size=100).block_size == 4
    assert TrainerConfig(block=8).block_size == 8


def test_any_character_survives() -> None:
    text = "".join(map(chr, range(0x300))) + "\u2028\u2029\ufeff\uffff\U0001f600"
    config = compose({"run_dir": text, "tables": {"a": " x", "b": "\x85", "c": ""}})
    assert from_yaml(to_yaml(config)) == config
