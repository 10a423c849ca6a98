"""The command `poise`."""

import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from poise import __version__
from poise.errors import UserError, nearest
from poise.secrets import redact
from poise.stopping import Stopped, hold_requests

if TYPE_CHECKING:
    from poise.config import Config

LONGEST = 500  # characters of an error's text
SITE = "site-packages"
SWEEP, RESUBMIT = "--sweep", "--resubmit-failed"
EXPLAIN, APPLY = "--explain", "apply"

Command = Callable[[list[str]], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: those after `poise`; None takes the process's own.

    Returns:
        The exit code: 0 done, 1 a failed run, 2 a mistake in what was given, 130 interrupted, 143 ended, 129 left by
        its terminal, 75 stopped to go on later.
    """
    if arguments is None and sys.argv[1:2] == ["train"]:  # the process is this run's
        hold_requests()
    return attempt(_run, list(sys.argv[1:] if arguments is None else arguments))


def attempt(command: Command, words: Sequence[str]) -> int:
    """The exit code of a command, what goes wrong said in a line; with --debug among the words it is raised."""
    _print_anything()
    debug = "--debug" in words
    try:
        return command([word for word in words if word != "--debug"])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads on: nothing is to be said
        return 0
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            raise
        text, code = _explained(error)
        if text:
            print(text, file=sys.stderr)
        return code


def _print_anything() -> None:
    """A terminal that lacks a character shows ? for it: what is printed never ends a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _explained(error: BaseException) -> tuple[str, int]:
    from poise.launching import LOST, RankLost

    if isinstance(error, UserError):
        return redact(str(error)), 2
    if isinstance(error, Stopped):
        return str(error), error.code
    if isinstance(error, RankLost):
        return "" if error.code == LOST else f"The run failed: {redact(str(error))}.", error.code
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted.", 130
    text = redact(" ".join(str(error).split()))
    text = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
    return f"The run failed: {type(error).__name__}{_place(error)}: {text} (--debug shows where.)", 1


def _place(error: BaseException) -> str:
    """Where, in code that is not installed: a recipe of one's own, say; "" where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parent)
    own = [f for f in frames if not f.filename.startswith((ours, sys.base_prefix, "<")) and SITE not in f.filename]
    return f" at {own[-1].filename}:{own[-1].lineno}" if own else ""


def _run(words: list[str]) -> int:
    command, rest = (words[0], words[1:]) if words else ("--help", [])
    if command in ("-h", "--help", "help"):
        return _help(rest)
    if command == "--version":
        return _say(f"poise {__version__}")
    if command not in COMMANDS:
        raise UserError(_no_command(command))
    if {"-h", "--help"} & set(rest):
        return _help([command])
    _refuse_options(command, rest)
    return COMMANDS[command](rest)


def _no_command(word: str) -> str:
    if word.startswith("-"):
        known = ("--help", "--version", "--debug")
        return f"poise has no option {word!r}: {', '.join(known)}.{nearest(word, known)}"
    if "=" in word:
        return f"There is no command {word!r}. Did you mean 'poise train {word}'?"
    return f"There is no command {word!r}: {', '.join(COMMANDS)}.{nearest(word, COMMANDS)}"


def _refuse_options(command: str, words: Sequence[str]) -> None:
    known = (*OPTIONS.get(command, ()), "--help", "--debug")
    for word in words:
        if word.startswith("-") and word not in known:
            raise UserError(f"poise {command} has no option {word!r}: {', '.join(known)}.{nearest(word, known)}")


def _help(topics: Sequence[str]) -> int:
    topic = topics[0] if topics else "poise"
    if topic not in ("poise", *COMMANDS):
        raise UserError(_no_command(topic))
    return _say((Path(__file__).parent / "help" / f"{topic}.txt").read_text(encoding="utf-8").rstrip())


def _say(text: str) -> int:
    print(text)
    return 0


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _train(arguments: list[str]) -> int:
    from poise import first_words
    from poise.config import CHECKS, CHECKS_OF_A_START, explain, parse
    from poise.launching import speaks, under_launcher

    if "--print-config" in arguments:
        return _say(explain([word for word in arguments if word != "--print-config"]))
    config = parse(arguments, CHECKS if under_launcher() else CHECKS_OF_A_START)
    if speaks():
        _announce(first_words.of_training(config, _looked_at(config)))
    from poise import train

    return train.main(config)


def _looked_at(config: "Config") -> bool:
    """Whether the run is finished; what is wrong with its directory is said before anything is imported."""
    from poise.config import to_yaml
    from poise.run_directory import RunDirectory

    if config.run_dir is None:
        return False
    directory = RunDirectory(Path(config.run_dir))
    directory.check(to_yaml(config), resume=config.resume == "auto")
    directory.check_free()
    return directory.finished


def _submit(arguments: list[str]) -> int:
    from poise.config import CHECKS_OF_A_JOB
    from poise.config.axes import parse_one

    options = [word for word in arguments if word.startswith("-")]
    words, dry = [word for word in arguments if word not in options], "--dry-run" in options
    if {SWEEP, RESUBMIT} <= set(options):
        raise UserError(f"{SWEEP} submits a sweep, and {RESUBMIT} what failed of one: leave one of them out.")
    if SWEEP in options or RESUBMIT in options:
        from poise import sweeping

        return (sweeping.main if SWEEP in options else sweeping.again)(words, dry)
    config = parse_one(words, CHECKS_OF_A_JOB)
    from poise import submitting

    return _say(submitting.submit(config, dry))


def _plan(arguments: list[str]) -> int:
    from poise import first_words
    from poise.config.planning import parse_plan

    plan = parse_plan(arguments)
    _announce(first_words.of_plan(plan))
    from poise.planning.main import planned

    return _say(planned(plan))


def _evaluate(arguments: list[str]) -> int:
    from poise import first_words
    from poise.config.evaluating import parse_evaluation
    from poise.located import located

    asked = parse_evaluation(arguments, located)
    _announce(first_words.of_evaluation(asked))
    from poise import evaluating

    return evaluating.main(asked)


def _calibrate(arguments: list[str]) -> int:
    from poise.config.commands import parse_calibrate

    if APPLY in arguments:
        return _apply([word for word in arguments if word != APPLY])
    words = [word for word in arguments if word != EXPLAIN]
    asked = parse_calibrate(words, explain=words != arguments)
    from poise.files.scores import read_scores

    scores = read_scores(asked.logits, f"logits={asked.logits}")
    _announce(f"{asked.logits}: {scores.told}")
    from poise import calibrating

    return calibrating.main(asked, scores)


def _apply(arguments: list[str]) -> int:
    from poise.config.commands import parse_apply

    if EXPLAIN in arguments:
        raise UserError(f"{EXPLAIN} is for what poise calibrate measures; {APPLY} measures nothing.")
    asked = parse_apply(arguments)
    from poise.files.scores import read_logits

    rows = read_logits(asked.logits, f"logits={asked.logits}")
    from poise import applying

    return applying.main(asked, rows)


def _predict(arguments: list[str]) -> int:
    from poise.config.commands import parse_predict
    from poise.located import located

    asked = parse_predict(arguments)
    run = located(asked.run, asked.uri)
    from poise.files.inputs import read_inputs

    inputs = read_inputs(asked.input, f"input={asked.input}")
    _announce(f"{asked.input}: {len(inputs)} inputs")
    from poise import predicting

    return predicting.main(asked, run, inputs)


def _list(words: list[str]) -> int:
    from poise.listing import show

    return _say(show(words))


def _ui(arguments: list[str]) -> int:
    from poise import ui

    return ui.main(arguments)


def _sync(arguments: list[str]) -> int:
    from poise.config.commands import parse_sync

    asked = parse_sync(arguments)
    from poise import syncing

    return syncing.main(asked)


def _completion(words: list[str]) -> int:
    """The script of a shell. It asks with a line's `words`, each ended by a line break, what the last may become."""
    from poise.completion.line import candidates, script

    match words:
        case ["words", line]:
            return _say("\n".join(candidates(line.removesuffix("\n").split("\n")[1:])))
        case [shell]:
            return _say(script(shell).rstrip())
    raise UserError("poise completion takes one shell: bash, zsh or fish.")


COMMANDS: Mapping[str, Command] = {
    "train": _train,
    "submit": _submit,
    "plan": _plan,
    "evaluate": _evaluate,
    "calibrate": _calibrate,
    "predict": _predict,
    "list": _list,
    "ui": _ui,
    "sync": _sync,
    "completion": _completion,
}
OPTIONS: Mapping[str, tuple[str, ...]] = {
    "train": ("--print-config",),
    "submit": ("--dry-run", SWEEP, RESUBMIT),
    "calibrate": (EXPLAIN,),
}
