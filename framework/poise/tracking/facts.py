"""What is told of a run besides its numbers: parameters, tags that sort, the state of git, what is installed."""

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from poise.config import Config, to_mapping
from poise.secrets import redact
from poise.written import as_text

GIT_SECONDS = 10
NAME_LENGTH = 250  # of MLflow, as the other two
PARAMETER_LENGTH = 6000
TAG_LENGTH = 8000
DESCRIPTION = "mlflow.note.content"
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]", re.ASCII)


def name_of(text: str) -> str:
    """A name that MLflow takes: other characters become `_`."""
    return _NOT_IN_NAMES.sub("_", redact(text))[:NAME_LENGTH]


def parameters(config: Config) -> dict[str, str]:
    """Every value of a config by its path, as the command line writes it."""
    leaves = _leaves("", to_mapping(config))
    return {name_of(path): redact(as_text(value))[:PARAMETER_LENGTH] for path, value in leaves}


def tags(config: Config) -> dict[str, str]:
    """What runs are sorted and grouped by."""
    found = {
        "stack": ",".join(config.recipe) or "plain",
        "data": data_name(config),
        "model": config.model.name,
        "strategy": config.strategy,
        "seed": str(config.seed),
        "mlflow.source.name": "poise",
        "mlflow.source.type": "LOCAL",
    }
    return {name: redact(value)[:TAG_LENGTH] for name, value in found.items()}


def data_name(config: Config) -> str:
    """The source and what is done to it, as the command line has them."""
    return ",".join([config.data.name, *config.data.wrappers])


def run_name(config: Config, directory: str) -> str:
    """The directory's name; where that is a date and the stack, the stack first: MLflow cuts names short."""
    own = re.fullmatch(r"(\d{4}-\d\d-\d\d-\d{6})-.*", directory)
    return f"{','.join(config.recipe) or 'plain'} {own[1]}" if own else directory


def description(table: str) -> str:
    """The report as MLflow shows it above a run's numbers: Markdown, in letters of one width."""
    return f"```\n{table[: TAG_LENGTH - 10]}\n```"


def git_tags(state: Mapping[str, Any]) -> dict[str, str]:
    """The tags by which MLflow knows a commit."""
    names = {"commit": "mlflow.source.git.commit", "branch": "mlflow.source.git.branch"}
    names["remote"] = "mlflow.source.git.repoURL"
    found = {tag: str(state[key])[:TAG_LENGTH] for key, tag in names.items() if state.get(key)}
    return found | ({"git.dirty": as_text(bool(state["changed"]))} if state else {})


def git_state(folder: Path) -> dict[str, Any]:
    """Commit, branch, remote and the names of changed files; empty outside a repository, or without git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return {}
    remotes = (_git(folder, "remote") or "").split()
    remote = "origin" if "origin" in remotes else next(iter(remotes), None)
    address = _git(folder, "remote", "get-url", remote) if remote else None
    return {
        "commit": commit,
        "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD"),
        "remote": redact(address) if address else None,
        "changed": (_git(folder, "status", "--porcelain") or "").splitlines(),
    }


def environment() -> str:
    """Python, the platform and the version of every installed package, as JSON."""
    named = ((found.metadata["Name"], found.version) for found in distributions())
    packages = sorted({name: version for name, version in named if name}.items(), key=lambda item: item[0].lower())
    known = {"python": platform.python_version(), "platform": platform.platform(), "packages": dict(packages)}
    return json.dumps(known, indent=2) + "\n"


def _leaves(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{prefix}.{key}" if prefix else str(key), inner)
    else:
        yield prefix, value


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where there is none, or it fails or takes too long."""
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=os.environ | quiet,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip() if done.returncode == 0 else None
