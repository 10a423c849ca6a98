import os
import subprocess
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import pytest

import poise
from poise import registry
from poise.cli import COMMANDS, main
from poise.config import Config
from poise.errors import UserError
from poise.registry import KINDS


def in_a_process(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, without the tests' import hook."""
    paths = [
        path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if not path.rstrip("/").endswith("shapes")
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    program = ["-c", code] if code else ["-m", "poise"]
    return subprocess.run(
        [sys.executable, *program, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[Config]]:
    """Puts a function in the place of `poise.train.main`; returns the configs it is called with."""

    def put(act: Callable[[], int]) -> list[Config]:
        seen: list[Config] = []
        fake = types.ModuleType("poise.train")
        fake.main = lambda config: seen.append(config) or act()  # type: ignore[attr-defined, func-returns-value]
        monkeypatch.setitem(sys.modules, "poise.train", fake)
        monkeypatch.setattr(poise, "train", fake, raising=False)
        return seen

    return put


def test_train_runs_the_config(train: Any) -> None:
    seen = train(lambda: 0)
    assert main(["train", "recipe=trades", "trainer.max_epochs=3"]) == 0
    assert list(seen[0].recipe) == ["trades", "pgd"]
    assert seen[0].trainer.max_epochs == 3


def test_every_mistake_is_a_line_and_the_exit_code_2(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seen = train(lambda: 0)
    assert main(["train", "recipe=trade", "seed=x", "threat.eps=8"]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert len(printed.err.splitlines()) == 3
    assert "Did you mean 'trades'?" in printed.err
    assert not seen


def raising(error: BaseException) -> Callable[[], int]:
    def act() -> int:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("data.path=x: there is no such file."), 2, "data.path=x: there is no such file."),
        (ZeroDivisionError("a\nb"), 1, "The run failed: ZeroDivisionError: a b (--debug shows where.)"),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_how_a_run_ends(
    train: Any, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    train(raising(error))
    assert main(["train"]) == code
    assert capsys.readouterr().err == f"{line}\n"


def test_debug_shows_the_traceback(train: Any) -> None:
    train(raising(ZeroDivisionError("here")))
    with pytest.raises(ZeroDivisionError, match="here"):
        main(["train", "--debug"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "There is no command 'trian': train, list. Did you mean 'train'?"),
        (["list", "recipe_s"], "There is no kind or name 'recipe_s'. Did you mean 'recipes'?"),
        (["list", "tradez"], "Did you mean 'trades'?"),
        (["list", "a", "b"], "poise list takes one kind or name, not 'a b'."),
    ],
)
def test_unknown_words_name_the_nearest(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"poise {poise.__version__}\n"
    for words in ([], ["--help"], *([command, "--help"] for command in COMMANDS)):
        assert main(words) == 0
        assert "Examples\n  poise " in capsys.readouterr().out


def test_the_examples_of_the_help_are_right(train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    seen = train(lambda: 0)
    for command in ("", *COMMANDS):
        main([*filter(None, [command]), "--help"])
        for line in capsys.readouterr().out.partition("Examples")[2].splitlines():
            words = line.split()
            if words[:1] == ["poise"] and not any(word.startswith("config=") for word in words):
                assert main(words[1:]) == 0
                capsys.readouterr()
    assert len(seen) >= 3


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wrapper"])
def test_list_shows_everything_of_a_kind(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", KINDS[kind].plural]) == 0
    shown = capsys.readouterr().out
    for name, record in registry.records(kind).items():
        assert name in shown.split()
        assert all(p.name in shown for p in record.parameters)


def test_list_shows_defaults_and_papers(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "recipes"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "trades beta=6.0 Zhang et al., Theoretically Principled Trade-off between Robustness and" in shown
    assert "steps=10, step_size=none, start=uniform" in shown


def test_list_shows_one_thing_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "trades"])
    shown = capsys.readouterr().out
    record = registry.find("recipe", "trades")
    for part in (record.doc, record.paper, record.qualified, "recipe.trades.beta=6.0", "hooks: inner, objective"):
        assert part in shown


def test_list_needs_no_torch_and_under_two_seconds() -> None:
    code = (
        "import sys; from poise.cli import main; code = main(['list']) or (main(['train', 'recipe=trade']) != 2);"
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'lightning', 'sklearn', 'poise_recipes')))"
    )
    start = time.perf_counter()
    done = in_a_process(code=code)
    assert done.returncode == 0, done.stderr
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(("words", "code"), [(["list", "recipes"], 0), (["train", "recipe=trade"], 2)])
def test_exit_codes_of_the_process(words: list[str], code: int) -> None:
    done = in_a_process(*words)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_is_no_failure() -> None:
    code = (
        "import os, sys; from poise import cli; r, w = os.pipe(); os.close(r); os.dup2(w, 1);"
        "sys.stdout = os.fdopen(1, 'w', 1); sys.exit(cli.main(['list', 'recipes']))"
    )
    done = in_a_process(code=code)
    assert (done.returncode, done.stderr) == (0, "")
