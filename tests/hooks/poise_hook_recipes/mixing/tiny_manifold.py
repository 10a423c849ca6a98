"""Manifold mixup."""

from typing import ClassVar

import torch
from torch import Tensor

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class TinyManifold(Recipe):
    """h ← λ·h + (1-λ)·h_partner at a layer drawn for the step (the input is one), and the targets [B, C] alike.

    Rows are paired inside their block, each block with a λ ~ U(0, 1) of its own.

    Source: Verma et al., Manifold Mixup: Better Representations by Interpolating Hidden States, 2019,
    arXiv 1806.05236, with α = 1.
    """

    paper = "Verma et al., Manifold Mixup, 2019, arXiv 1806.05236"
    provides: ClassVar[frozenset[str]] = frozenset({"mixed"})
    needs: ClassVar[frozenset[str]] = frozenset({"layers"})
    after: ClassVar[frozenset[str]] = frozenset({"resized"})

    def mix(self, batch: Batch, step: Step) -> Batch:
        layers = ("input", *step.model.layer_names)
        chosen = layers[int(torch.randint(len(layers), (1,), generator=step.host_generator("layer")))]
        share, partner = torch.empty_like(batch.target[:, 0]), torch.empty_like(batch.label)
        for rows, generator in step.blocks(batch, "pairs"):
            share[rows] = torch.rand(1, generator=generator, device=rows.device, dtype=share.dtype)
            order = rows[torch.randperm(len(rows), generator=generator, device=rows.device)]
            partner[order] = order.roll(1)
        return batch.blend(partner, share, lambda x: x).note(self, (chosen, share, partner))

    def transform(self, layer: str, h: Tensor, batch: Batch, step: Step) -> Tensor:
        chosen, share, partner = batch.noted(self) or ("", None, None)
        if layer != chosen:
            return h
        own = share.view(-1, *[1] * (h.ndim - 1))
        return own * h + (1 - own) * h[partner]
