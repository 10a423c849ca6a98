"""What MLflow runs to load and serve a predictor; it is kept beside each model, and needs poise where it runs."""

from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from poise.errors import UserError
from poise.predictor import Predictor


class Served(PythonModel):
    """Calibrated class probabilities [N, C] for inputs [N, *input] in their valid range."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the predictor; whoever loads a model of MLflow runs its code, so what it names is imported as well.

        Raises:
            MlflowException: it cannot be rebuilt, for example because its model was somebody's own object.
        """
        try:
            self.predictor = Predictor.load(context.artifacts["predictor"], trust=True)
        except UserError as error:
            raise _answer(error) from None

    def predict(self, context: PythonModelContext, model_input: np.ndarray, params: Any = None) -> np.ndarray:
        """Probabilities [N, C], float32.

        Raises:
            MlflowException: inputs that the predictor refuses; a server answers with status 400.
        """
        try:
            return self.predictor.in_batches(model_input).numpy()
        except UserError as error:
            raise _answer(error) from None


def _answer(error: UserError) -> MlflowException:
    return MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE)


mlflow.models.set_model(Served())
