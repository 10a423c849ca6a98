"""DDP whose ranks may take longer to start than a collective to answer."""

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

START = timedelta(minutes=30)  # that ranks wait for one that still reads its data, or comes from a slow disk


class PatientDDP(DDPStrategy):
    """DDP; the time-out is that of collectives alone, not of the ranks' first meeting.

    Args:
        timeout: of a collective.
        settings: as of DDPStrategy.
    """

    def __init__(self, timeout: timedelta, **settings: Any) -> None:
        super().__init__(timeout=max(timeout, START), **settings)
        self._of_collectives = timeout

    def setup_distributed(self) -> None:
        """Lightning's hook: ranks meet here."""
        super().setup_distributed()
        device = torch.device("cuda" if self._process_group_backend == "nccl" else "cpu")
        dist.distributed_c10d._get_default_group()._get_backend(device)._set_default_timeout(self._of_collectives)
