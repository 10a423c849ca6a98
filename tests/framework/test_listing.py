import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poise import listing, registry
from poise.config import parse, presets
from poise.details import example, in_full
from poise.listing import show
from poise.registry import KINDS
from poise.registry.record import Record

EXISTING = [
    (kind, name)
    for kind in KINDS
    for name, record in registry.records(kind).items()
    if record.qualified.startswith(("poise.", "poise_recipes."))
]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if registry.records(kind)])
def test_a_table_has_everything_of_a_kind(kind: str) -> None:
    shown = show([KINDS[kind].plural])
    assert show([kind]) == shown
    for name, record in registry.records(kind).items():
        row = next(line for line in shown.splitlines() if line.split("  ")[0] == name)
        assert all(p.name in row for p in record.parameters)
        assert all(hook in row for hook in record.hooks)
    assert shown.splitlines()[0].startswith(KINDS[kind].plural)


def test_all_tables_with_the_presets() -> None:
    shown = show([])
    assert shown.endswith(show(["presets"]))
    titles = [part.splitlines()[0].split()[0] for part in shown.split("\n\n")]
    assert titles == [*listing.plurals(), "presets"]


def test_a_row_of_recipes_says_what_it_does_and_shows_hooks_paper_and_parameters() -> None:
    rows = [re.split(" {2,}", line) for line in show(["recipes"]).splitlines()]
    assert rows[0] == ["recipes", "what it is", "hooks", "paper", "parameters"]
    about = registry.find("recipe", "trades").doc.partition("\n")[0]
    cited, given = "Zhang et al., 2019, arXiv 1901.08573", "beta=6.0, label_on=clean"
    assert ["trades", about, "inner, objective, passes", cited, given] in rows
    assert next(row for row in rows if row[0] == "pgd")[-1].startswith("steps=10, step_size=none, start=uniform")


def test_a_parameter_that_has_to_be_given_is_told_from_one_with_a_default() -> None:
    assert "path=…, val=0.1" in show(["data"])


def test_one_thing_in_full() -> None:
    shown = show(["trades"])
    record = registry.find("recipe", "trades")
    assert record.qualified in shown
    assert record.paper in " ".join(shown.split())
    for part in (
        record.doc.partition("\n")[0][:60],
        "Hooks      inner, objective",
        "Provides   clean",
        "Needs      attack (of fgsm_rs, ",
        "Brings     pgd start=normal, where no other member has its hooks",
        "  recipe.trades.beta=6.0\n      a number, 0 or more: weight of the KL term.",
        "Example\n  poise train recipe=trades recipe.trades.beta=6.0",
    ):
        assert part in shown
    assert "Args:" not in shown


def test_how_often_ranks_meet_for_a_recipe() -> None:
    assert "Ranks meet once a step, and once a step to scale the weights of the stack" in show(["group_dro"])
    assert "Ranks meet once a step to scale the weights of the stack" in show(["class_balanced"])
    assert "Ranks meet twice a step\n" in show(["sup_con"])
    assert "Ranks meet" not in show(["trades"])


def test_allowed_values_and_types() -> None:
    shown = show(["pgd"])
    assert "recipe.pgd.start=uniform\n      uniform or normal or none: " in shown
    assert "recipe.pgd.step_size=none\n      a number or none, above 0: of each step" in shown
    assert "data.path=…\n      a string; has to be given: of the file." in show(["npz"])
    assert "Given      num_classes and input_shape, by poise" in show(["small_cnn"])
    assert "Of every model\n  model.checkpoint=none\n      a string or none: file of weights" in show(["small_cnn"])
    assert "optimizer.layer_decay=1.0\n      a number, above 0 and at most 1: factor" in show(["sgd"])
    assert "Of every" not in show(["cosine"])


@pytest.mark.parametrize(("kind", "name"), EXISTING)
def test_every_example_is_a_config(kind: str, name: str, tmp_path: Path) -> None:
    words = example(registry.find(kind, name)).split()
    assert words[:2] == ["poise", "train"]
    (tmp_path / "file").touch()
    words = [word.replace("timm/…", "timm/resnet18").replace("…", str(tmp_path / "file")) for word in words[2:]]
    config = parse(words)
    assert name in str(config)


@pytest.mark.parametrize(("kind", "name"), EXISTING)
def test_everything_in_full_says_every_parameter_and_what_it_is(kind: str, name: str) -> None:
    record = registry.find(kind, name)
    lines = in_full(record).splitlines()
    for parameter in record.parameters:
        place = next(n for n, line in enumerate(lines) if line.partition("=")[0].endswith(f".{parameter.name}"))
        told = itertools.takewhile(lambda line: line.startswith("      "), lines[place + 1 :])
        assert any(": " in f"{line} " for line in told), f"{name}.{parameter.name} is not in the docstring's Args"
    assert max(map(len, lines)) <= 120


def test_a_preset_with_its_sources() -> None:
    for name in presets.names():
        assert presets.text(name).strip() in show([name])
        assert presets.about(name) in show(["presets"])


def test_ones_own_things_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "listed_own.py").write_text(
        "import torch\nfrom poise import Recipe\n\n\nclass Mine(Recipe):\n"
        '    """Does mine.\n\n    Args:\n        strength: of it.\n    """\n\n'
        "    def __init__(self, strength: float = 0.5):\n        super().__init__()\n\n"
        "    def penalty(self, outcome, batch, step):\n        return 0\n\n\n"
        "def net(num_classes: int, width: int = 3) -> torch.nn.Module: ...\n"
    )
    monkeypatch.chdir(tmp_path)
    registry.refresh()
    shown = show(["listed_own:Mine"])
    assert shown.startswith("listed_own:Mine: a recipe (listed_own:Mine)\n\nDoes mine.")
    assert "Hooks      penalty" in shown
    assert "recipe.Mine.strength=0.5\n      a number: of it." in shown
    assert shown.endswith("poise train recipe=listed_own:Mine recipe.Mine.strength=0.5")
    assert "listed_own:net: a model" in show(["listed_own:net"])
    assert "listed_own" not in sys.modules


def test_without_a_docstring_nothing_stands_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "listed_bare.py").write_text("from poise import Recipe\n\n\nclass Bare(Recipe):\n    pass\n")
    assert show(["listed_bare:Bare"]).startswith("listed_bare:Bare: a recipe (listed_bare:Bare)\n\nExample\n")


@pytest.mark.parametrize("page", ["poise", "list"])
def test_help_names_every_kind(page: str) -> None:
    text = (Path(listing.__file__).parent / "help" / f"{page}.txt").read_text()
    assert all(plural in text for plural in [*listing.plurals(), "presets"])


def test_own_words_that_lead_nowhere_are_mistakes() -> None:
    with pytest.raises(ValueError, match="nowhere_at_all"):
        show(["nowhere_at_all:Mine"])


def test_a_name_of_two_kinds_is_shown_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = Record(kind="model", name="step", qualified="x:step")
    monkeypatch.setattr(listing, "named", lambda kind, name: twin if kind == "model" else registry.named(kind, name))
    assert "step: a model (x:step)" in show(["step"])
    assert "step: a schedule" in show(["step"])


IN_A_TERMINAL = """
import pty, os, sys, fcntl, struct, termios
pid, screen = pty.fork()
if pid == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
    os.execv(sys.executable, [sys.executable, "-m", "poise", "list", *sys.argv[1:]])
shown = b""
while True:
    try:
        read = os.read(screen, 65536)
    except OSError:
        break
    if not read:
        break
    shown += read
os.waitpid(pid, 0)
sys.stdout.buffer.write(shown)
"""


@pytest.mark.parametrize("word", ["", "recipes", "calibrators", "data", "trades", "pgd", "npz"])
def test_a_terminal_of_80_columns_shows_it_whole(word: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_TERMINAL, *filter(None, [word])],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout).splitlines()
    assert lines
    assert max(map(len, lines)) <= 80
    words = " ".join(lines)
    if word in ("", "recipes"):
        for record in registry.records("recipe").values():
            assert all(p.name in words for p in record.parameters)
            assert all(hook in words for hook in record.hooks)
    if word == "recipes":
        assert "…" not in words
