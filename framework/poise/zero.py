"""DeepSpeed's ZeRO under Lightning, on CUDA and for real on CPU, without casting what an attack works on."""

import argparse
import copy
import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.plugins.precision.deepspeed import DeepSpeedPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from poise import deepspeed_says, zero_state
from poise.errors import UserError


class ZeroPrecision(DeepSpeedPrecision):
    """Leaves inputs alone; bf16-mixed is torch's autocast over float32 parameters, as it is under DDP."""

    def __init__(self, precision: str, device_type: str) -> None:
        super().__init__(precision)  # type: ignore[arg-type]
        self.device_type = device_type

    def convert_input(self, data: Any) -> Any:
        """A cast to bfloat16 would move every input by up to 6 % of an eps of 8/255."""
        return data

    def convert_module(self, module: nn.Module) -> nn.Module:
        """As under DDP: a cast to float32 would round recipes' float64 buffers whenever a run is resumed."""
        return module

    def forward_context(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16-mixed":
            return torch.autocast(self.device_type, dtype=torch.bfloat16)
        return nullcontext()

    def backward(self, tensor: Float[Tensor, ""], model: L.LightningModule, *_: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Lightning has divided the loss by the number of accumulated batches: DeepSpeed must not again."""
        model.trainer.model.backward(tensor, scale_wrt_gas=False, **kwargs)  # type: ignore[union-attr,operator]


class ZeroStrategy(DeepSpeedStrategy):
    """ZeRO. Clipping and accumulation are the Trainer's arguments; DeepSpeed obeys them.

    Args:
        settings: of DeepSpeed, as `poise.zero_settings.zero_settings` gives them: of ZeRO, stage 1 shares out the
            optimiser's state, 2 also the gradients, 3 also the parameters.
        device_type: 'cuda' (NCCL) or 'cpu' (gloo).
        precision: '32-true' or 'bf16-mixed'.
        timeout: of a collective.
        rows: examples of a micro-batch on one rank, by which DeepSpeed reports how fast it is.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        device_type: str,
        precision: str,
        timeout: timedelta = timedelta(minutes=30),
        rows: int = 1,
    ) -> None:
        self._device_type = device_type
        self._groups: list[list[nn.Parameter]] = []
        super().__init__(
            config={**copy.deepcopy(dict(settings)), "train_micro_batch_size_per_gpu": rows},
            process_group_backend="nccl" if device_type == "cuda" else "gloo",
            precision_plugin=ZeroPrecision(precision, device_type),
            timeout=timeout,
            logging_level=logging.ERROR,
        )
        logging.getLogger("lightning.pytorch.strategies.deepspeed").setLevel(logging.WARNING)

    @property
    def precision_plugin(self) -> Precision:
        return super().precision_plugin

    @precision_plugin.setter
    def precision_plugin(self, plugin: Precision | None) -> None:
        # `Trainer(precision=…)` comes with Lightning's own plugin, which casts
        if plugin is not None and not isinstance(plugin, ZeroPrecision):
            plugin = ZeroPrecision(str(plugin.precision), self._device_type)
        self._precision_plugin = plugin

    def setup_environment(self) -> None:
        super(DeepSpeedStrategy, self).setup_environment()  # Lightning's refuses whatever is not CUDA

    def setup_distributed(self) -> None:
        if self._device_type == "cuda":
            super().setup_distributed()
        else:  # CPUs have no index to be checked
            import deepspeed

            # compiled at first use, where there is a compiler, for inference only
            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
            reset_seed()
            self.set_world_ranks()
            self._init_deepspeed_distributed()

    def _format_config(self) -> None:
        assert isinstance(self.config, dict)
        if self.precision_plugin.precision == "bf16-mixed":
            self.config["bf16"] = {"enabled": False}  # it would turn the parameters into bfloat16
            self.config["torch_autocast"] = {
                "enabled": True,
                "dtype": "bfloat16",
                "lower_precision_safe_modules": [],  # gradients travel in float32, as DDP's do
            }
        super()._format_config()

    def _setup_model(self, model: nn.Module) -> nn.Module:  # type: ignore[override]
        """As DDP does; Lightning's would pass over `Trainer(sync_batchnorm=True)`."""
        return self._layer_sync.apply(model) if self._layer_sync else model

    def _setup_model_and_optimizer(
        self, model: nn.Module, optimizer: Optimizer | None, lr_scheduler: Any = None
    ) -> tuple[Any, Any]:
        import deepspeed

        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        assert isinstance(self.config, dict)
        _refuse_scalars(model)
        deepspeed_says.ask(self.config)
        self._groups = [list(group["params"]) for group in optimizer.param_groups] if optimizer else []
        self._fit_bucket(sum(parameter.numel() for parameter in parameters))
        engine, wrapped, _, _ = deepspeed.initialize(
            args=self._arguments(),
            config=self.config,
            model=model,
            model_parameters=parameters,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            dist_init_required=False,
        )
        return engine, wrapped

    def _initialize_deepspeed_inference(self, model: nn.Module) -> None:
        """Stages 1 and 2 keep the parameters whole: outside of fit there is nothing to share out."""
        if self.zero_stage_3:
            super()._initialize_deepspeed_inference(model)
        else:
            self.model = model.to(self.root_device)

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's state as it is under DDP, whole on rank 0. To be called on all ranks."""
        assert self.lightning_module is not None
        state = self.lightning_module.state_dict(keep_vars=True)
        return {name: self._whole(value) if isinstance(value, Tensor) else value for name, value in state.items()}

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """The state of DeepSpeed's optimiser as it is under DDP, on rank 0. To be called on all ranks."""
        return zero_state.gathered(optimizer, self._groups, self.root_device)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write one file from rank 0, as DDP does."""
        super(DeepSpeedStrategy, self).save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: str | Path, weights_only: bool | None = None) -> dict[str, Any]:
        """Read such a file, of any strategy and number of ranks."""
        return super(DeepSpeedStrategy, self).load_checkpoint(checkpoint_path, weights_only)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Put a module's whole state into one whose parameters may be shared out."""
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict(keep_vars=True)
        shared = {name: value for name, value in own.items() if hasattr(value, "ds_id")}
        state = checkpoint["state_dict"]
        for name, parameter in shared.items():
            with torch.no_grad(), _gathered(parameter, writer=0):
                parameter.copy_(state[name])
        rest = {name: value for name, value in state.items() if name not in shared}
        found = self.lightning_module.load_state_dict(rest, strict=False)
        if strict and (wrong := sorted({*found.unexpected_keys, *found.missing_keys} - {*shared})):
            raise RuntimeError(f"the checkpoint's state is not this module's: {', '.join(wrong)}")

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        (saved,) = checkpoint["optimizer_states"]
        zero_state.take_up(self.deepspeed_engine.optimizer, self._groups, saved)

    def _whole(self, value: Tensor) -> Tensor | None:
        with _gathered(value):
            return value.detach().clone().cpu() if self.is_global_zero else None

    def _arguments(self) -> argparse.Namespace:
        if self._device_type == "cuda":
            return argparse.Namespace(device_rank=self.root_device.index)
        return argparse.Namespace()

    def _fit_bucket(self, elements: int) -> None:
        """DeepSpeed allocates its reduction bucket whole: no more than the model fills."""
        assert isinstance(self.config, dict)
        zero = self.config["zero_optimization"]
        zero["reduce_bucket_size"] = min(int(zero["reduce_bucket_size"]), max(elements, 1))


def _gathered(value: Tensor, writer: int | None = None) -> AbstractContextManager[Any]:
    """A parameter that stage 3 shares out is whole meanwhile; what rank `writer` makes of it is then everybody's."""
    if not hasattr(value, "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters([value], modifier_rank=writer)


def _refuse_scalars(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise UserError(
                f"{name} is a parameter without axes, which DeepSpeed cannot send: make it torch.ones(1), or use "
                "strategy=ddp"
            )
