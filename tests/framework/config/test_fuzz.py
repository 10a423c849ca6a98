"""Whatever is typed or written: a config or mistakes, never a stack trace."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from poise.cli import main
from poise.config import parse, presets, to_yaml

COMMANDS = 1000
FILES = 200
PRESETS = 100

OWN = "poise_hook_recipes.labels.tiny_smoothing:TinySmoothing"
GOOD = [
    ["recipe=trades,mixup,temperature_scaling", "recipe.trades.beta=3", "recipe.pgd.steps=20", "seed=1"],
    ["recipe=pgd_at,tiny_smoothing@a,tiny_smoothing@b", "recipe.b.smoothing=1/5", "calibration=none"],
    [f"recipe={OWN}", "recipe.TinySmoothing.smoothing=0.2", "model=mlp", "model.depth=3"],
    ["recipe=trades_cifar10,mixup", "recipe.trades.beta=3", "optimizer.lr=1e-2", "trainer.max_epochs=5"],
    ["recipe=pgd_at_mnist", "threat.eps=4/255", "schedule=multi_step", "schedule.milestones=0.5,0.75"],
    ["data=colored_digits", "data.correlation=0.9", "recipe=group_dro", "evaluation=clean,adversarial@strong"],
    ["evaluation.strong.steps=50", "evaluation=adversarial@strong", "recipe=mixup", "selection=nll"],
    ["slurm.nodes=2", "slurm.gpus=4", "slurm.time=30:00", "slurm.extra=--export=ALL,A=1", "recipe=awp,trades"],
    ["tracking=none", "tables.errors=runs/a", "run_dir=runs/${seed}", "resume=never", "strategy=ddp"],
    ["optimizer=adamw", "optimizer.beta1=0.8", "trainer.precision=64-true", "trainer.gradient_clip=none"],
]
PIECES = [
    "=",
    ",",
    "@",
    ":",
    "${",
    "}",
    ".",
    "",
    " ",
    "é",
    "\u2028",
    "名",
    "\x00",
    "\n",
    "-",
    "/",
    "'",
    '"',
    "#",
    "x" * 5000,
]


def dropped(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text) + 1)
    return text[:place] + text[place + 1 :]


def doubled(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text) + 1)
    return text[: place + 1] + text[place : place + 1] + text[place + 1 :]


def swapped(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text) + 1)
    return text[:place] + text[place : place + 2][::-1] + text[place + 2 :]


def inserted(text: str, draw: random.Random) -> str:
    place = draw.randrange(len(text) + 1)
    return text[:place] + draw.choice(PIECES) + text[place:]


def emptied(text: str, draw: random.Random) -> str:
    return draw.choice(["", text.partition("=")[0], text.partition("=")[0] + "=", "=" + text.partition("=")[2]])


CHARACTERS: list[Callable[[str, random.Random], str]] = [dropped, doubled, swapped, inserted, inserted, emptied]


def mutated(words: Sequence[str], draw: random.Random) -> list[str]:
    """A good command line with one to three things wrong, or none by luck."""
    words = list(words)
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(words))
        key, _, value = words[place].partition("=")
        other, _, others = draw.choice(draw.choice(GOOD)).partition("=")
        whole = [f"{value}={key}", f"{key}={others}", f"{other}={value}", f"{key}.{other}={value}", words[0]]
        words[place] = draw.choice([*whole, *(mutate(words[place], draw) for mutate in CHARACTERS)])
    return words


@pytest.fixture
def ends_well(capsys: pytest.CaptureFixture[str]) -> Callable[[Sequence[str]], int]:
    """Runs `poise train … --print-config`; returns its exit code once it is known to have ended as it should."""

    def run(words: Sequence[str]) -> int:
        code = main(["train", *words, "--print-config"])
        printed = capsys.readouterr()
        assert code in (0, 2), (words, printed.err)
        lines = printed.err.splitlines()
        assert bool(lines) == (code == 2), words
        assert all(line.strip() == line and line for line in lines), (words, lines)
        assert len(set(lines)) == len(lines), (words, lines)
        assert not any(line.startswith(("Traceback", "File ")) for line in lines), (words, lines)
        assert bool(printed.out) == (code == 0), words
        return code

    return run


def test_the_good_ones_are_good(ends_well: Callable[[Sequence[str]], int]) -> None:
    assert [ends_well(words) for words in GOOD] == [0] * len(GOOD)


def test_command_lines(ends_well: Callable[[Sequence[str]], int]) -> None:
    draw = random.Random(0)
    codes = [ends_well(mutated(draw.choice(GOOD), draw)) for _ in range(COMMANDS)]
    assert 0.5 * COMMANDS < codes.count(2) < COMMANDS


def broken_text(text: str, draw: random.Random) -> str:
    """A YAML text with up to three characters or lines wrong."""
    for _ in range(draw.randint(1, 3)):
        lines = text.split("\n")
        place, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        kind = draw.randrange(8)
        if kind == 0:
            lines[place], lines[other] = lines[other], lines[place]
        elif kind == 1:
            lines.insert(place, lines[other])
        elif kind == 2:
            lines[place] = (
                draw.choice([" ", "\t", "- ", "? ", "{", "[", "&a ", "*a ", "!!python/name:os.x "]) + lines[place]
            )
        elif kind == 3:
            lines[place] = lines[place].partition(":")[0] + draw.choice(
                [":", ": [a, [b]]", ": {a: ~}", ": ${seed}", ": ${"]
            )
        else:
            lines[place] = draw.choice(CHARACTERS[:-1])(lines[place], draw)
        text = "\n".join(lines)
    return text


def test_files(ends_well: Callable[[Sequence[str]], int], tmp_path: Path) -> None:
    draw, file = random.Random(1), tmp_path / "run.yaml"
    texts = [to_yaml(parse(words)) for words in GOOD] + [presets.text(name) for name in presets.names()]
    codes = []
    for _ in range(FILES):
        file.write_text(broken_text(draw.choice(texts), draw), encoding="utf-8")
        codes.append(ends_well([f"config={file}", *draw.choice([[], ["recipe=mixup"], ["recipe=trades_cifar10"]])]))
    assert 0 < codes.count(0) < FILES


@pytest.mark.parametrize("text", ["[" * 3000, "a: " * 3000, "{a: " * 2000, "\ufeff", "a: \udcff", "%YAML 9.9\n---\n"])
def test_files_of_another_kind(text: str, ends_well: Callable[[Sequence[str]], int], tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    ends_well([f"config={file}"])


def test_presets(ends_well: Callable[[Sequence[str]], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, texts = random.Random(2), [presets.text(name) for name in presets.names()]
    monkeypatch.setattr(presets, "folder", lambda name: tmp_path)
    codes = []
    for _ in range(PRESETS):
        for name in ("one", "two"):
            (tmp_path / f"{name}.yaml").write_text(broken_text(draw.choice(texts), draw), encoding="utf-8")
        codes.append(ends_well([draw.choice(["recipe=one", "recipe=two,mixup", "recipe=one,two"])]))
    assert 0 < codes.count(0) < PRESETS
