"""The scripts in the shells themselves, at a terminal, with Tab pressed."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from poise.cli import main
from poise.completion.line import SHELLS

START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config"],
}
LOAD = {
    "bash": 'eval "$(poise completion bash)"',
    "zsh": 'autoload -Uz compinit && compinit -u -D && eval "$(poise completion zsh)"',
    "fish": "poise completion fish | source",
}
# Typed lines are run with this in the command's place, which shows what Tab has made of them.
SHOW = """poise() { if [ "$1" = completion ]; then command poise "$@"; else printf '{%s}' "$@"; echo; fi; }"""


def _needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, `poise` first on the path, and no import hook of the tests."""
    program = tmp_path / "bin" / "poise"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m poise "$@"\n')
    program.chmod(0o755)
    (tmp_path / "a b.yaml").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "my own").mkdir()
    (tmp_path / "my own" / "a.yaml").touch()
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "TERM": "dumb",
        "PS1": "ready> ",
        "LC_ALL": "C.UTF-8",
    }


class Terminal:
    """A shell at a pseudo-terminal."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process, self.screen = pty.fork()
        if self.process == 0:
            os.chdir(environment["HOME"])
            os.execvpe(command[0], command, environment)
        self.shown = ""

    def until(self, pattern: str, seconds: float = 30) -> str:
        """What is shown from now on, as soon as the pattern is in it."""
        deadline = time.monotonic() + seconds
        while not re.search(pattern, self.shown):
            ready, _, _ = select.select([self.screen], [], [], 0.1)
            if ready:
                self.shown += os.read(self.screen, 65536).decode(errors="replace")
            assert time.monotonic() < deadline, f"{pattern!r} is not in {self.shown!r}"
        shown, self.shown = self.shown, ""
        return shown

    def type(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def end(self) -> None:
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.screen)


@pytest.fixture
def terminal(request: pytest.FixtureRequest, environment: dict[str, str]) -> Iterator[Terminal]:
    shell = request.param
    _needs(shell)
    terminal = Terminal(START[shell], environment)
    try:
        terminal.type(f"{LOAD[shell]}; {SHOW}; echo load''ed\n")
        terminal.until("loaded")
        yield terminal
    finally:
        terminal.end()


PRESSED = {
    "poise tr\tx": "{train}{x}",
    "poise train trai\tx": "{train}{trainer.x}",
    "poise train recipe=trades recipe.trades.b\t3": "{train}{recipe=trades}{recipe.trades.beta=3}",
    "poise train recipe=trades,mi\t": "{train}{recipe=trades,mixup}",
    "poise train recipe=trades@a,mi\t,awp": "{train}{recipe=trades@a,mixup,awp}",
    "poise train trainer.progress=t\tx": "{train}{trainer.progress=true}{x}",
    "poise train config=a\tx": "{train}{config=a b.yaml}{x}",
    "poise train config=f\tx": "{train}{config=folder/x}",
    "poise train config=my\\ \t\ty": "{train}{config=my own/a.yaml}{y}",
}


@pytest.mark.parametrize("terminal", ["bash", "zsh"], indirect=True)
def test_tab_in_a_real_terminal(terminal: Terminal) -> None:
    for typed, becomes in PRESSED.items():
        terminal.type(f"{typed}\n")
        terminal.until(r"\n" + re.escape(becomes))


IN_BASH = """
source <(poise completion bash)
COMP_LINE=$1 COMP_POINT=${2:-${#1}}
compopt() { :; }
_poise
printf '<%s>\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "replies"),
    [
        ("poise tr", ["train "]),
        ("poise train recipe=trades recipe.trades.b", ["recipe.trades.beta="]),
        ("poise train recipe=trades,mi", ["trades,mixup"]),
        ("poise train threat=l", ["linf ", "l2 ", "l1 "]),
        ("poise train recipe=trades@a,mi", ["@a,mixup"]),
        ("poise   train  trai", ["trainer."]),
        ("poise nonsense x", [""]),
    ],
)
def test_bash_gets_what_stands_behind_the_last_break(
    line: str, replies: list[str], environment: dict[str, str]
) -> None:
    _needs("bash")
    shown = subprocess.run(
        ["bash", "-c", IN_BASH, "-", line], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert (shown.stdout.splitlines(), shown.stderr) == ([f"<{reply}>" for reply in replies], "")


def test_bash_looks_at_what_stands_before_the_cursor(environment: dict[str, str]) -> None:
    _needs("bash")
    words = ["bash", "-c", IN_BASH, "-", "poise tr recipe=trades", "8"]
    shown = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout == "<train >\n"


def test_bash_without_breaks_gets_the_whole_word(environment: dict[str, str]) -> None:
    _needs("bash")
    program = f"COMP_WORDBREAKS=' '\n{IN_BASH}"
    words = ["bash", "-c", program, "-", "poise train recipe=trades,mi"]
    shown = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert shown.stdout == "<recipe=trades,mixup>\n"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("poise tr", ["train"]),
        ("poise train recipe=trades recipe.trades.b", ["recipe.trades.beta="]),
        ("poise train recipe=trades,mi", ["recipe=trades,mixup"]),
        ("poise train trainer.progress=", ["trainer.progress=true", "trainer.progress=false"]),
        ("poise completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_fish(line: str, found: list[str], environment: dict[str, str]) -> None:
    _needs("fish")
    program = f"{LOAD['fish']}; complete -C {line!r}"
    shown = subprocess.run(
        ["fish", "--no-config", "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert shown.stdout.splitlines() == found


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_right_to_their_shells(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "poise completion" in text.splitlines()[0]
    _needs(shell)
    (tmp_path / "script").write_text(text)
    subprocess.run([shell, "-n", str(tmp_path / "script")], check=True, timeout=60)
