import time
from pathlib import Path

import pytest

from poise.errors import UserError
from poise.located import located


@pytest.fixture(autouse=True)
def _somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_a_directory_is_itself_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / ("a" * 32)).mkdir()
    assert located("a" * 32) == Path("a" * 32)


@pytest.mark.parametrize("run", ["nowhere", "runs:/abc", "runs:/", "A" * 32, "models:/mine/1"])
def test_what_names_no_run_is_one_line(run: str) -> None:
    with pytest.raises(UserError, match=f"^there is no run {run}: give a run's directory, or the id"):
        located(run)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (None, r"is looked for in .*/mlflow\.db, which is not there: say where it is tracked"),
        ("htp://x", "^tracking.uri=htp://x has a scheme that MLflow does not know"),
        ("http://me:hunter2@127.0.0.1:9", r"no server answers at http://\*\*\*@127\.0\.0\.1:9$"),
    ],
)
def test_a_place_that_is_not_there_is_one_line_and_soon(tmp_path: Path, uri: str | None, message: str) -> None:
    begun = time.monotonic()
    with pytest.raises(UserError, match=message) as caught:
        located(f"runs:/{'f' * 32}", uri)
    assert time.monotonic() - begun < 20
    assert len(str(caught.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
