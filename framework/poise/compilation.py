"""Whether a model can be compiled here."""

import os
import shutil

from poise.errors import UserError

COMPILERS = {"cpu": ("CXX", ("g++", "clang++")), "cuda": ("CC", ("gcc", "clang"))}  # a variable, and names to look for


def check_compiling(accelerator: str, zero_stage: int) -> None:
    """Refuse to compile where it cannot work; compiles nothing.

    Args:
        accelerator: 'cpu', where PyTorch writes C++, or 'cuda', where Triton compiles what starts its kernels.
        zero_stage: 0 where every rank holds everything.

    Raises:
        UserError: there is no compiler, or the weights are shared out.
    """
    if zero_stage == 3:
        raise UserError(
            "trainer.compile=true with ZeRO 3, whose weights are fetched by hooks that a compiled model does not "
            "call: use strategy=deepspeed_zero2, or trainer.compile=false"
        )
    variable, names = COMPILERS[accelerator]
    chosen = os.environ.get(variable)
    if not any(shutil.which(name) for name in ([chosen] if chosen else names)):
        looked = f"{variable}={chosen}" if chosen else " or ".join(names)
        raise UserError(
            f"trainer.compile=true: there is no compiler on this machine ({looked}): install one, such as Debian's "
            f"package {names[0]}, or set trainer.compile=false"
        )
