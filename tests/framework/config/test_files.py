from typing import Any

from hypothesis import given, settings

from config_strategies import runs
from poise.config import compose, from_yaml, parse, to_mapping, to_yaml
from poise.config.schema import TrainerConfig


@settings(max_examples=30, deadline=None)
@given(runs())
def test_a_config_comes_back_from_its_yaml(values: dict[str, Any]) -> None:
    config = compose(values, checks=())  # of members drawn at random, many contradict each other
    text = to_yaml(config)
    assert from_yaml(text, checks=()) == config
    assert to_yaml(from_yaml(text, checks=())) == text
    assert compose(to_mapping(config), checks=()) == config


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
    config = compose({"run_dir": text, "tables": {"a": " x", "b": "\x85", "c": "\t"}})
    assert from_yaml(to_yaml(config)) == config
