"""Find secrets in text, and take them out: before anything is tracked, logged or written to a config."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

HIDDEN = "***"
SHORTEST = 8  # characters of an environment variable's value that is taken for a secret
SECRET_WORDS = {"TOKEN", "PASSWORD", "PASSWD", "SECRET", "CREDENTIAL", "CREDENTIALS", "APIKEY", "KEY"}

_PARAMETERS = "access_token|auth_token|token|api_?key|key|password|passwd|pwd|secret|signature|sig"
_SHAPES = {
    "a password in an address": r"(?<=://)[^/?#\s'\"]*:[^/?#\s'\"]*@|(?<=http://)[^/?#\s'\"]+@|(?<=https://)[^/?#\s'\"]+@",
    "a token in an address": rf"(?P<kept>[?&#](?i:(?:[\w.-]*[_.-])?(?:{_PARAMETERS})=))[^&#\s'\"]+",
    "a GitHub token": r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{16,}|github_pat_[A-Za-z0-9_]{16,})",
    "a GitLab token": r"(?<![A-Za-z0-9])glpat-[\w-]{16,}",
    "a Hugging Face token": r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{16,}",
    "an AWS key": r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "a secret key": r"(?<![A-Za-z0-9])sk-(?:[a-z0-9]+-){0,3}[A-Za-z0-9_]{20,}[\w-]*",
    "a Slack token": r"(?<![A-Za-z0-9])xox[a-z]-[\w-]{10,}",
    "a Databricks token": r"(?<![A-Za-z0-9])dapi[0-9a-f]{32}",
    "an authorization header": r"(?<=Bearer )[\w.~+/=-]{8,}|(?<=Basic )[A-Za-z0-9+/=]{8,}",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
}
_PATTERNS = {kind: re.compile(shape, re.DOTALL) for kind, shape in _SHAPES.items()}


def redact(text: str) -> str:
    """The text with every secret in it replaced by `***`."""
    for _, value in _of_environment():
        text = text.replace(value, HIDDEN)
    for pattern in _PATTERNS.values():
        text = pattern.sub(_hidden, text)
    return text


def found_in(text: str) -> str | None:
    """What kind of secret a text holds, such as `a GitHub token`; None where it holds none. Never the secret."""
    for name, value in _of_environment():
        if value in text:
            return f"the value of the environment's {name}"
    return next((kind for kind, pattern in _PATTERNS.items() if _has(pattern, text)), None)


def _has(pattern: re.Pattern[str], text: str) -> bool:
    """Whether it holds a secret that has not been taken out already."""
    return any(HIDDEN not in match[0] for match in pattern.finditer(text))


def _hidden(match: re.Match[str]) -> str:
    return f"{match.groupdict().get('kept', '')}{HIDDEN}{'@' if match[0].endswith('@') else ''}"


def _of_environment() -> Iterator[tuple[str, str]]:
    """The variables whose names say that they hold a secret; the longest values first, for one may hold another."""
    named = [(name, value) for name, value in os.environ.items() if SECRET_WORDS & set(_words(name))]
    for name, value in sorted(named, key=lambda item: -len(item[1])):
        if len(value) >= SHORTEST and not _is_path(value):
            yield name, value


def _words(name: str) -> list[str]:
    return re.split(r"[^A-Z0-9]+", name.upper())


def _is_path(value: str) -> bool:
    try:
        return Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
