"""What a person may give wrongly: one line for each mistake, all at once, an exit code, and nothing left behind."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from poise.cli import main
from poise.config import to_yaml
from poise.config.compose import parse

Said = Callable[..., list[str]]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs `poise …` in an empty directory; returns its lines after checking what holds of all mistakes."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def run(*words: str) -> list[str]:
        before = sorted(here.rglob("*"))
        code = main(list(words))
        printed = capsys.readouterr()
        assert (code, printed.out) == (2, "")
        assert "Traceback" not in printed.err
        assert sorted(path for path in here.rglob("*") if "__pycache__" not in path.parts) == before
        return [line for line in printed.err.splitlines() if not line.startswith("Training ")]

    return run


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("recipe=trade", "Did you mean 'trades'?"),
        ("recipe=trades_cifar1", "Did you mean 'trades_cifar10'?"),
        ("recipe=trades recipe.trades.bta=3", "trades has no parameter 'bta'. Did you mean 'beta'?"),
        ("recipe=trades recipe.trades.beta=high", "recipe.trades.beta=high is not a number"),
        (
            "trainr.max_epochs=3",
            "'trainr.max_epochs' to set. Did you mean 'trainer.max_epochs'?",
        ),
        ("trainer.max_epohs=3", "Did you mean 'max_epochs'?"),
        ("data=digitz", "Did you mean 'digits'?"),
        ("calibration=temperature_scaling@uncalibrated", "reports call something else so"),
        ("data=digits,subest", "there is no wrapper called 'subest'. Did you mean 'subset'?"),
        ("model=small_cn", "Did you mean 'small_cnn'?"),
        ("optimizer=sdg", "Did you mean 'sgd'?"),
        ("schedule=cosin", "Did you mean 'cosine'?"),
        ("strategy=dpp", "Did you mean 'ddp'?"),
        ("seed=1 seed=2", "seed is given twice: 1 and 2."),
        ("recipe=trades recipe.name=mixup", "recipe.name is given twice"),
        ("seed=one", "seed=one is not an integer."),
        ("trainer.progress=yes", "is not true or false"),
        ("threat.eps=8", "eps is in input units. Did you mean threat.eps=8/255?"),
        ("evaluation.adversarial.steps=many", "is not an integer"),
        ("recipe=pgd_at,trades", "both decide the objective of a step: keep one of them"),
        ("recipe=tiny_upweight", "needs `table:errors`: give tables.errors=<file or run>"),
        ("recipe=mixup recipe.trades.beta=3", "'trades' is not in recipe=mixup. Add it: recipe=mixup,trades"),
        ("recipe=", "recipe= leaves a name empty: give one, or write recipe=plain."),
        ("config=absent.yaml", "config=absent.yaml: there is no such file."),
        ("data=npz data.path=absent.npz", "data.path=absent.npz: there is no such file."),
        ("model.checkpoint=absent.pt", "model.checkpoint=absent.pt: there is no such file."),
        ("model.checkpoint=/tmp", "model.checkpoint=/tmp is a directory: give a file of weights."),
        ("tables.errors=absent.npy recipe=tiny_upweight", "tables.errors=absent.npy: there is no such file or run."),
        ("recipe=nowhere:Mine", "there is no module 'nowhere' on PYTHONPATH or in the working directory."),
        ("recipe=poise.batch:Batch", "poise.batch:Batch is not a recipe: it does not derive from Recipe."),
        (
            "trainer.devices=16",
            "over 16 ranks is 8 a rank, not a multiple of block=16. Fits: 1, 2, 4, 8",
        ),
        ("slurm.nodes=2", "slurm.nodes asks a cluster for a job, and this run starts here"),
        ("run_dir=/proc/version/a", "run_dir=/proc/version/a: /proc/version is a file."),
        (f"run_dir={'a' * 300}/b", "cannot be used: File name too long."),
        (f"data=npz data.path={'a' * 300}", "there is no such file."),
        ("tracking=mlfow", "tracking=mlfow is not mlflow or none. Did you mean 'mlflow'?"),
        ("trainer.max_epochs", "'trainer.max_epochs' is not of the form path=value"),
        ("--print-confg", "poise train has no option '--print-confg'"),
    ],
)
def test_each_mistake_has_its_line(arguments: str, line: str, said: Said) -> None:
    found = said("train", *arguments.split())
    assert any(line in one for one in found), found
    assert len(found) == 1


def test_all_mistakes_are_said_together(said: Said) -> None:
    words = "recipe=pgd_at,trades recipe.trades.bta=1 data=npz data.path=absent.npz seed=x threat.eps=8 foo=1"
    found = said("train", *words.split(), "run_dir=/proc/version/a", "tables.a=b")
    for part in ("pgd_at and trades", "'bta'", "absent.npz", "seed=x", "'foo'", "/proc/version", "tables.a=b"):
        assert sum(part in one for one in found) == 1, found
    assert len(found) == 7  # how large an eps may be the data decide, and an npz says so when it is read


def test_presets_that_disagree_are_said_key_by_key(said: Said) -> None:
    found = said("train", "recipe=trades_cifar10,pgd_at_mnist")
    assert any("optimizer.lr: two presets differ, 0.1 (in preset trades_cifar10) and 1e-4 (in" in one for one in found)


def test_devices_are_counted_once(said: Said) -> None:
    (line, _) = said("train", "trainer.devices=2", "slurm.gpus=4")
    assert line == "trainer.devices=2 and slurm.nodes × slurm.gpus = 4 differ: give one of them."


def test_a_directory_that_belongs_to_others_stays_as_it_is(said: Said, tmp_path: Path) -> None:
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    (occupied / "thesis.tex").write_text("x")
    (line,) = said("train", f"run_dir={occupied}")
    assert line == f"run_dir={occupied} is not a run's: it holds thesis.tex; name another directory."
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.yaml").write_text(to_yaml(parse([f"run_dir={other}", "seed=1", "trainer.max_epochs=3"])))
    (line,) = said("train", f"run_dir={other}", "seed=2")
    assert "holds a run with another config (seed was 1, now 2; trainer.max_epochs was 3, now 20)" in line
    (line,) = said("train", f"run_dir={other}", "resume=never")
    assert "holds a run already: resume=auto continues it" in line


@pytest.fixture
def outside() -> Iterator[Path]:
    """A directory that everybody can reach: pytest's own are their owner's alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


def test_a_directory_without_permission_is_said(outside: Path) -> None:
    closed, locked = outside / "closed", outside / "locked"
    closed.mkdir(mode=0o555)
    locked.mkdir(mode=0o400)
    code = (
        "import os, sys\nfrom poise.cli import main\n"
        "main(['train', 'run_dir=/proc/version/a'])\n"  # imports all there is to import, which nobody may not read
        "if os.geteuid() == 0: os.setuid(65534)\n"
        f"main(['train', 'run_dir={locked}/run'])\n"
        f"sys.exit(main(['train', 'run_dir={closed}/run']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/")
    lines = [
        f"run_dir={locked}/run cannot be used: Permission denied.",
        f"run_dir={closed}/run cannot be written: no permission in {closed}.",
    ]
    assert (done.returncode, done.stderr.splitlines()[1:]) == (2, lines)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said(said: Said) -> None:
    (line,) = said("train", "trainer.accelerator=cuda", "tracking=none")
    assert line == "trainer.accelerator=cuda: PyTorch sees no GPU on this machine; set trainer.accelerator=cpu"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"PK\x03\x04 no archive", "mine.npz"),
        (b"", "mine.npz"),
    ],
)
def test_an_archive_that_is_none_is_said(content: bytes, line: str, said: Said) -> None:
    Path("mine.npz").write_bytes(content)
    (found,) = said("train", "data=npz", "data.path=mine.npz", "tracking=none")
    assert line in found


def test_an_archive_cut_short_is_said(said: Said) -> None:
    x, y = np.random.default_rng(0).random((40, 8, 8)), np.arange(40) % 2
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    whole = Path("mine.npz").read_bytes()
    Path("mine.npz").write_bytes(whole[: len(whole) // 2])
    (line,) = said("train", "data=npz", "data.path=mine.npz", "tracking=none")
    assert "mine.npz" in line
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 0xFF
    Path("mine.npz").write_bytes(damaged)
    (line,) = said("train", "data=npz", "data.path=mine.npz", "tracking=none")
    assert "mine.npz" in line


def test_a_users_module_fails_with_its_own_error_and_line(said: Said) -> None:
    head = "from poise import Recipe\n\n\nclass Mine(Recipe):\n    pass\n\n\n"
    Path("failing_module.py").write_text(f"{head}value = 1 / 0\n")
    (line,) = said("train", "recipe=failing_module:Mine", "tracking=none")
    assert line.startswith("failing_module:Mine cannot be imported: ")
    assert line.endswith("failing_module.py:8: ZeroDivisionError: division by zero")
    Path("unfinished_module.py").write_text(f"{head}value = (\n")
    (line,) = said("train", "recipe=unfinished_module:Mine", "tracking=none")
    assert "unfinished_module.py:8: '(' was never closed" in line


def test_what_a_constructor_refuses_is_a_mistake(said: Said) -> None:
    Path("picky_module.py").write_text(
        "from poise import Recipe\n\n\nclass Picky(Recipe):\n    def __init__(self, odd: int = 2) -> None:\n"
        "        super().__init__()\n        self.odd = odd\n        if odd % 2 == 0:\n"
        "            raise ValueError(f'odd={odd} is even')\n"
    )
    (line,) = said("train", "recipe=picky_module:Picky", "tracking=none")
    assert line == "recipe Picky: odd=2 is even"


def test_exit_codes_of_processes(tmp_path: Path) -> None:
    for words, code in ((["train", "recipe=trade"], 2), (["list", "recipes"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "poise", *words], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == code
        assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
