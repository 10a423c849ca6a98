"""Secrets are found and taken out, and what is none is left alone."""

from pathlib import Path

import pytest

from poise.secrets import found_in, redact

SECRETS = [
    ("https://me:pa55word@host.org/x", "pa55word", "a password in an address"),
    ("postgresql://me:pa:ss@55@host/db", "pa:ss@55", "a password in an address"),
    ("https://abcdef0123@github.com/me/x.git", "abcdef0123", "a password in an address"),
    ("http://host/?a=1&access_token=abc123&b=2", "abc123", "a token in an address"),
    ("http://host/#access_token=abc123", "abc123", "a token in an address"),
    ("https://host/?X-Amz-Signature=abc123", "abc123", "a token in an address"),
    ("ghp_" + "a1B2" * 9, "a1B2a1B2", "a GitHub token"),
    ("github_pat_" + "a1_B" * 9, "a1_Ba1_B", "a GitHub token"),
    ("x=glpat-" + "a1-B" * 5, "a1-Ba1-B", "a GitLab token"),
    ("(hf_" + "aBcD" * 8 + ")", "aBcDaBcD", "a Hugging Face token"),
    ("AKIA" + "A1B2" * 4, "A1B2A1B2", "an AWS key"),
    ("sk-proj-" + "a1B2" * 8, "a1B2a1B2", "a secret key"),
    ("xoxb-" + "1234-abcd" * 2, "1234-abcd", "a Slack token"),
    ("Authorization: Bearer abc.def-123", "abc.def-123", "an authorization header"),
]

HARMLESS = [
    "git@github.com:me/poise.git",
    "ssh://git@github.com/me/poise.git",
    "sqlite:////home/me@work/mlflow.db",
    "http://localhost:5000",
    "postgresql://me@host/db",
    "https://host/?page=2&order=key",
    "runs/2025-01-01-task-sk-learn-digits-experiment-with-long-name",
    "recipe.trades.beta",
    "https://***@host/x?token=***",
]


@pytest.mark.parametrize(("text", "secret", "kind"), SECRETS)
def test_secrets_are_found_and_taken_out_of_any_text(text: str, secret: str, kind: str) -> None:
    assert found_in(f"before {text} after") == kind
    left = redact(f"before {text} after")
    assert secret not in left
    assert "***" in left
    assert (left.startswith("before"), left.endswith("after")) == (True, True)
    assert found_in(left) is None
    assert redact(left) == left


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text: str) -> None:
    assert found_in(text) is None
    assert redact(text) == text


@pytest.mark.parametrize("name", ["MY_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "X_APIKEY", "GCP_CREDENTIALS"])
def test_values_of_the_environment_are_secrets_by_their_names(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "plain-word-17")
    assert found_in("a plain-word-17 here") == f"the value of the environment's {name}"
    assert redact("a plain-word-17 here") == "a *** here"


def test_short_values_paths_and_other_names_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("A_TOKEN", "short")
    monkeypatch.setenv("B_KEY", str(tmp_path))
    monkeypatch.setenv("TOKENIZERS", "parallelism")
    text = f"short {tmp_path} parallelism"
    assert found_in(text) is None
    assert redact(text) == text


def test_a_private_key_goes_as_a_whole() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
    assert redact(f"a {key} b") == "a *** b"
