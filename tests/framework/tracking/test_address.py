"""Addresses: given, of the environment, by default; and those that MLflow cannot read."""

from pathlib import Path

import pytest

from poise.config import ConfigErrors, parse
from poise.tracking import address


def test_the_config_comes_before_the_environment_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert address.resolve(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert address.resolve(None, tmp_path) == "http://environment"
    assert address.resolve("http://given", tmp_path) == "http://given"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///runs.db", "sqlite:////data/runs.db"),
        ("sqlite:////data/runs.db", "sqlite:////data/runs.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://host/db", "postgresql://host/db"),
    ],
)
def test_a_database_means_the_same_from_everywhere(uri: str, expected: str) -> None:
    assert address.absolute(uri, Path("/data")) == expected
    assert address.is_database(uri)


@pytest.mark.parametrize(
    "uri", ["http://a", "https://a:5000/x", "sqlite:///a.db", "mysql+pymysql://a/b", "databricks", "databricks://p"]
)
def test_what_mlflow_reads_is_no_mistake(uri: str) -> None:
    assert parse([f"tracking.uri={uri}"]).tracking.uri == uri


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        (
            "htps://a",
            "tracking.uri=htps://a has a scheme that MLflow does not know (did you mean 'https'?): give one of",
        ),
        ("mlruns", "tracking.uri=mlruns is a file or folder, in which MLflow keeps no runs: give sqlite:///mlflow.db"),
        ("file:///a", "is a file or folder, in which MLflow keeps no runs"),
        ("http:a", "tracking.uri=http:a is no address: write http://host:port"),
        ("http://", "tracking.uri=http:// is no address: write http://host:port"),
        ("https:///x", "is no address: write https://host:port"),
        ("http://:5000", "is no address"),
        ("mysql:a", "is no address: write mysql://…"),
    ],
)
def test_what_it_does_not_is_said_before_anything_starts(uri: str, said: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse([f"tracking.uri={uri}"])
    assert said in str(caught.value)
    assert parse([f"tracking.uri={uri}", "tracking=none"]).tracking.name == "none"


def test_a_mistake_of_the_environment_is_said_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "htp://a")
    with pytest.raises(ConfigErrors, match="MLFLOW_TRACKING_URI=htp://a has a scheme"):
        parse([])


SECRET = "pa55word17"


@pytest.mark.parametrize(
    "arguments",
    [
        [f"tracking.uri=https://me:{SECRET}@host"],
        [f"tracking.uri=htps://me:{SECRET}@host"],
        [f"run_dir=https://me:{SECRET}@host"],
        ["data=npz", f"data.path=https://{SECRET}@host/x.npz"],
        [f"trainer.max_epochs=https://me:{SECRET}@host"],
        [f"trainer.max_epochs={'x' * 38}://me:{SECRET}@host"],
        ["seed=1", f"seed=https://me:{SECRET}@host"],
        [f"https://me:{SECRET}@host"],
    ],
)
def test_a_secret_in_a_config_is_a_mistake_that_does_not_repeat_it(arguments: list[str]) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse(arguments)
    assert SECRET[:4] not in str(caught.value)


def test_where_a_secret_belongs_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigErrors, match=r"set MLFLOW_TRACKING_URI in the environment and leave tracking\.uri out"):
        parse([f"tracking.uri=https://me:{SECRET}@host"])
    monkeypatch.setenv("MY_TOKEN", SECRET)
    with pytest.raises(ConfigErrors, match=r"slurm\.extra holds the value of the environment's MY_TOKEN.*config\.yaml"):
        parse([f"slurm.extra=--export=A={SECRET}"])
