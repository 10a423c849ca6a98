from poise.attacks.threat import Threat as Threat
from poise.batch import Batch as Batch
from poise.batch import Outcome as Outcome
from poise.batch import Predictions as Predictions
from poise.calibrator import Calibrator as Calibrator
from poise.data.dataset import Arrays as Arrays
from poise.data.dataset import Splits as Splits
from poise.errors import UserError as UserError
from poise.evaluating import evaluate as evaluate
from poise.evaluator import Evaluator as Evaluator
from poise.evaluator import Findings as Findings
from poise.evaluator import Subject as Subject
from poise.models.classifier import Classifier as Classifier
from poise.models.classifier import Output as Output
from poise.module import TrainingModule as TrainingModule
from poise.predictor import Predictor as Predictor
from poise.recipe import Passes as Passes
from poise.recipe import Recipe as Recipe
from poise.recipe import Task as Task
from poise.result import Result as Result
from poise.rules import Refusal as Refusal
from poise.stack import RecipeStack as RecipeStack
from poise.step import Step as Step
from poise.train import fit as fit

__version__: str
