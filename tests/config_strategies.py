"""Configs drawn at random: every kind of value that a schema or a registered thing has."""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from poise import registry
from poise.config.schema import ENTRIES, SlurmConfig, TrackingConfig, TrainerConfig
from poise.registry import Record

TEXTS = st.one_of(st.text(max_size=8), st.text("${}\\'\"#:,.@ =-~a0", max_size=8)).filter(
    lambda text: text not in ("", "none")
)
LINES = TEXTS.filter(str.isprintable)
PARTS = st.from_regex(r"[a-z]{4}\.[a-z0-9]{1,3}", fullmatch=True)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
RECORDS = {kind: list(registry.records(kind).values()) for kind in registry.KINDS}


def of_type(hint: Any) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Annotated:
        return bounded(*get_args(hint))
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is list:
        return st.lists(of_type(get_args(hint)[0]), max_size=4)
    if get_origin(hint) is tuple:
        return st.lists(of_type(get_args(hint)[0]), max_size=4).map(tuple)
    if hint in (int, float, str, bool):
        return {int: st.integers(), float: FLOATS, str: TEXTS, bool: st.booleans()}[hint]
    return st.one_of([st.none() if kind is type(None) else of_type(kind) for kind in get_args(hint)])


def bounded(kind: type, *bounds: Any) -> st.SearchStrategy[Any]:
    limits = {
        name: getattr(bound, name) for bound in bounds for name in ("ge", "gt", "le", "lt") if hasattr(bound, name)
    }
    low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
    if kind is int:
        return st.integers(low, high)
    inside = {"exclude_min": "gt" in limits, "exclude_max": "lt" in limits}
    return st.floats(low, high, allow_nan=False, allow_infinity=False, **inside)


def parameters(record: Record) -> st.SearchStrategy[dict[str, Any]]:
    values = {p.name: of_type(p.type) for p in record.parameters}
    for name, kind in record.attributes.get("named", {}).items():
        values[name] = st.lists(st.sampled_from([known.name for known in RECORDS[kind]]), max_size=4).map(tuple)
    required = {p.name for p in record.parameters if p.required}
    return st.fixed_dictionaries(
        {name: value for name, value in values.items() if name in required},
        optional={name: value for name, value in values.items() if name not in required},
    )


@st.composite
def members(draw: st.DrawFn, group: str, kind: str) -> dict[str, Any]:
    drawn = draw(st.lists(st.sampled_from(RECORDS[kind]), max_size=3))
    chosen = [record for record in drawn if not record.brings or record is next(r for r in drawn if r.brings)]
    aliases = draw(st.lists(st.from_regex(r"[a-z]{3,8}_[0-9]", fullmatch=True), min_size=3, max_size=3, unique=True))
    members = dict(zip(aliases, chosen, strict=False))
    names = [f"{record.name}@{alias}" for alias, record in members.items()]
    return {group: {"name": names} | {alias: draw(parameters(record)) for alias, record in members.items()}}


@st.composite
def single(draw: st.DrawFn, group: str) -> dict[str, Any]:
    record = draw(st.sampled_from(RECORDS[group]))
    hints = get_type_hints(ENTRIES[group], include_extras=True) if group in ENTRIES else {}
    drawn = {name: of_type(hints[name]) for name in registry.KINDS[group].reserved}
    if group == "model":
        drawn["new_head"] = st.just(False)  # true needs a checkpoint
        drawn["freeze"] = st.none() | st.lists(PARTS, min_size=1, max_size=3)
    own = {name: draw(values) for name, values in drawn.items()}
    return {group: {"name": record.name} | own | draw(parameters(record))}


@st.composite
def data(draw: st.DrawFn) -> dict[str, Any]:
    """A source, its parameters, and up to two wrappers."""
    source = draw(st.sampled_from(RECORDS["data"]))
    wrapped = draw(members("data", "wrapper"))["data"]
    names = [source.name, *wrapped.pop("name")[:2]]
    aliases = [name.partition("@")[2] for name in names[1:]]
    return {"data": {"name": names, **draw(parameters(source)), **{alias: wrapped[alias] for alias in aliases}}}


def group(cls: type, **others: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Some fields of a group; `others` instead of what their types allow."""
    hints = get_type_hints(cls, include_extras=True)
    strategies = {item.name: others.get(item.name, of_type(hints[item.name])) for item in fields(cls)}
    return st.fixed_dictionaries({}, optional={name: strategies[name] for name in strategies})


TIMES = st.sampled_from([None, "30", "30:00", "8:00:00", "1-12:00:00"])
NOTICES = st.none() | st.integers(0, 600)  # of which the least of the times leaves enough
URIS = st.sampled_from([None, "sqlite:///my.db", "http://tracker:5000"])
SIZES = st.sampled_from(
    [{}, {"batch_size": 64, "devices": 2, "accumulate": 4, "block": 8}, {"batch_size": 50, "block": None}]
)


@st.composite
def runs(draw: st.DrawFn) -> dict[str, Any]:
    """A whole run: nested, in Python's own types. Members that are drawn at random often contradict each other."""
    values = draw(members("recipe", "recipe")) | draw(members("evaluation", "evaluator")) | draw(data())
    values |= draw(members("calibration", "calibrator"))
    for name in ("model", "optimizer", "schedule"):
        values |= draw(single(name))
    none: st.SearchStrategy[None] = st.none()
    sizes = dict.fromkeys(("batch_size", "devices", "accumulate", "block"), none)
    trainer = draw(group(TrainerConfig, **sizes))
    values["trainer"] = {name: value for name, value in trainer.items() if name not in sizes} | draw(SIZES)
    values["tracking"] = draw(group(TrackingConfig, uri=URIS))
    of_a_job = dict.fromkeys(("account", "partition", "qos", "constraint", "prefix", "python"), none | LINES)
    nodes, extra = st.sampled_from([None, 1]), st.sampled_from([None, "--export=ALL,A=1 -w 'node 1'"])
    of_a_job |= {"time": TIMES, "notice": NOTICES, "gpus": none, "nodes": nodes, "extra": extra}
    values["slurm"] = draw(group(SlurmConfig, **of_a_job))
    values["threat"] = {"name": draw(st.sampled_from(["l2", "l1"])), "eps": draw(st.none() | st.floats(0, 100))}
    values["tables"] = draw(st.dictionaries(st.from_regex(r"[a-z]+", fullmatch=True), TEXTS, max_size=2))
    values["strategy"] = draw(st.sampled_from(["auto", "ddp", "deepspeed_zero1"]))
    values["resume"] = draw(st.sampled_from(["auto", "never"]))
    values["seed"] = draw(st.integers(0, 2**63))
    return values | {"run_dir": draw(st.none() | TEXTS), "selection": draw(st.none() | TEXTS)}


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values by path."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def typed(value: Any) -> str:
    """A value as a user types it."""
    if isinstance(value, list | tuple):
        return ",".join(map(typed, value))
    return (
        {None: "none", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def arguments(values: Mapping[str, Any]) -> list[str]:
    """The command line of a run. An empty list of names is its word for none."""
    words = {"recipe.name": "plain", "calibration.name": "none", "evaluation.name": "none"}
    return [f"{path}={words.get(path, '') if value in ([], ()) else typed(value)}" for path, value in flat(values)]
