"""Bootstrap samples of the training set."""

import torch
from jaxtyping import Float
from torch import Tensor

from poise.recipe import Recipe, Task


class TinyBagging(Recipe):
    """Each epoch draws N examples with replacement, all equally likely.

    Source: Breiman, Bagging Predictors, 1996, one member of the bag with a fresh sample each epoch.
    """

    paper = "Breiman, Bagging Predictors, 1996"

    def sample_weights(self, task: Task, epoch: int) -> Float[Tensor, " N"]:
        return torch.ones(task.num_train)
