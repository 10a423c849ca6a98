import os
import re
import shlex
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import poise
from poise import submitting, sweeping, syncing, ui
from poise.cli import COMMANDS, main
from poise.config import Config, parse, to_yaml
from poise.errors import UserError
from poise.planning import main as planning

FILES = ("config=", "run=", "model.checkpoint=", "logits=")  # what an example names that is not there


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


def failed(error: str, text: str) -> str:
    return f"The run failed: {error} at {__file__}:LINE: {text} (--debug shows where.)"


def raising(error: BaseException) -> Callable[[], int]:
    def act() -> int:
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("data.path=x: there is no such file."), 2, "data.path=x: there is no such file."),
        (
            ZeroDivisionError("a\nb"),
            1,
            failed("ZeroDivisionError", "a b"),
        ),
        (
            OSError("https://me:hunter22@host"),
            1,
            failed("OSError", "https://***@host"),
        ),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_how_a_run_ends(
    train: Any, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    train(raising(error))
    assert main(["train"]) == code
    said = "Training plain on digits, small_cnn, 20 epochs\n"  # before PyTorch is imported, which takes seconds
    assert re.sub(r":\d+: ", ":LINE: ", capsys.readouterr().err) == f"{said}{line}\n"


def test_debug_shows_the_traceback(train: Any) -> None:
    train(raising(ZeroDivisionError("here")))
    for words in (["train", "--debug"], ["--debug", "train"]):
        with pytest.raises(ZeroDivisionError, match="here"):
            main(words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], f"There is no command 'trian': {', '.join(COMMANDS)}. Did you mean 'train'?"),
        (["help", "lits"], f"There is no command 'lits': {', '.join(COMMANDS)}. Did you mean 'list'?"),
        (["recipe=trades"], "There is no command 'recipe=trades'. Did you mean 'poise train recipe=trades'?"),
        (["--versoin"], "poise has no option '--versoin': --help, --version, --debug. Did you mean '--version'?"),
        (["train", "--foo"], "poise train has no option '--foo': --print-config, --help, --debug."),
        (["train", "--print-confg", "recipe=trades"], "Did you mean '--print-config'?"),
        (["list", "--debg"], "poise list has no option '--debg': --help, --debug. Did you mean '--debug'?"),
        (["list", "recipe_s"], "There is no kind or name 'recipe_s'. Did you mean 'recipes'?"),
        (["list", "tradez"], "Did you mean 'trades'?"),
        (["list", "a", "b"], "poise list takes one kind or name, not 'a b'."),
        (["ui", "prot=8080"], "poise ui has no 'prot': tracking.uri=…, port=…. Did you mean 'port'?"),
        (["completion"], "poise completion takes one shell: bash, zsh or fish."),
        (["completion", "zhs"], "There is no completion for 'zhs': bash, zsh, fish. Did you mean 'zsh'?"),
    ],
)
def test_unknown_words_name_the_nearest(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not printed.out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"poise {poise.__version__}\n"
    for words in ([], ["--help"], ["help"], *([command, "--help"] for command in COMMANDS)):
        assert main(words) == 0
        assert "Examples\n  poise " in capsys.readouterr().out


@pytest.mark.parametrize("command", list(COMMANDS))
def test_help_of_a_command_both_ways(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["help", command])
    first = capsys.readouterr().out
    main([command, "anything", "-h"])
    assert capsys.readouterr().out == first
    assert first.startswith(f"poise {command}")
    main(["--help"])
    assert f"poise {command} " in capsys.readouterr().out
    assert max(map(len, first.splitlines())) <= 120


def test_the_examples_of_the_help_are_right(
    train: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = train(lambda: 0)
    served: list[list[str]] = []
    monkeypatch.setattr(ui, "main", lambda arguments: served.append(arguments) or 0)
    monkeypatch.setattr(submitting, "submit", lambda config, dry: "")
    for name in ("main", "again"):
        monkeypatch.setattr(sweeping, name, lambda words, dry: served.append(words) or 0)
    monkeypatch.setattr(planning, "planned", lambda plan: served.append([plan.machines.gpu]) or "")
    monkeypatch.setattr(syncing, "main", lambda asked: served.append([asked.run_dir]) or 0)
    for command in ("", *COMMANDS):
        main([*filter(None, [command]), "--help"])
        for line in capsys.readouterr().out.partition("Examples")[2].splitlines():
            words = shlex.split(line)
            if words[:1] == ["poise"] and not any(word.startswith(FILES) for word in words):
                assert main(words[1:]) == 0, line
                capsys.readouterr()
    assert len(seen) >= 3
    assert len(served) >= 7


LIGHT = """
import os, sys
from poise.cli import main
code = main(sys.argv[2:])
heavy = [name for name in ('torch', 'lightning', 'sklearn', 'mlflow', 'numpy', 'poise_recipes') if name in sys.modules]
assert not heavy, heavy
sys.exit(code != int(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (0, "--version"),
        (0, "--help"),
        (0, "help train"),
        (0, "list"),
        (0, "list trades"),
        (0, "list trades_cifar10"),
        (0, "train --print-config recipe=trades,mixup"),
        (0, "train --print-config recipe=trades_cifar10"),
        (0, "submit recipe=trades slurm.nodes=2 slurm.gpus=4 --dry-run"),
        (0, "submit --sweep recipe=trades seed=0 seed=1 --dry-run"),
        (2, "train recipe=trade seed=x threat.eps=8 traner.seed=3"),
        (2, "train data=npz data.path=missing.npz tables.errors=nowhere run_dir=/proc/none"),
        (2, "calibrate logits=missing.npz calibration=nonsense recipe=trades out=found.txt"),
        (2, "predict run=missing input=missing.npz trust=perhaps"),
        (2, "plan gpu=h10 recipe=trades data=imagenet data.path=missing"),
        (2, "ui tracking.uri=sqlite:///missing.db"),
        (2, "sync run_dir=missing"),
        (2, "trian"),
        (0, "completion bash"),
        (0, "completion words poise\ntrain\nrecipe=trades\nrecipe.tr\n"),
        (0, "completion words poise\ncalibrate\nrecipe=h_calibration\ncalibration.\n"),
    ],
)
def test_nothing_heavy_is_imported(code: int, line: str) -> None:
    done = in_a_process(str(code), *(word.replace("\\n", "\n") for word in line.split(" ")), code=LIGHT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["help", "train"]])
def test_version_and_help_read_no_registry_and_no_config(words: list[str]) -> None:
    code = (
        "import sys; from poise.cli import main; main(sys.argv[1:]);"
        "sys.exit(any(name in sys.modules for name in ('poise.registry', 'poise.config', 'rich', 'yaml', 'inspect')))"
    )
    assert in_a_process(*words, code=code).returncode == 0


@pytest.mark.parametrize(
    ("words", "code"), [(["list", "recipes"], 0), (["train", "recipe=trade"], 2), (["list", "--foo"], 2)]
)
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


def test_a_terminal_that_lacks_a_character_is_no_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "poise", "list", "trades"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "recipe.trades.beta=6.0" in done.stdout


HOLDS = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_directory_that_is_in_use_is_said_before_anything_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert main(["train", f"run_dir={tmp_path}"]) == 2
        other.communicate()
    said = f"run_dir={tmp_path} is in use: another process is at work there; wait for it, or name another run_dir\n"
    assert capsys.readouterr().err == said


def test_a_finished_run_is_not_said_to_be_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [f"run_dir={tmp_path}", "tracking=none"]
    (tmp_path / "config.yaml").write_text(to_yaml(parse(words)))
    (tmp_path / "report.json").write_text('{"test/accuracy": 0.5}')
    assert main(["train", *words]) == 0
    output = capsys.readouterr()
    assert output.err == f"{tmp_path} is finished: looking for what is left to tell\n"
    assert f"{tmp_path} is finished; its report:" in output.out
