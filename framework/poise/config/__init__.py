"""Grammar, schema, composition and error messages of a run's config."""

from poise.config.compose import CHECKS as CHECKS
from poise.config.compose import CHECKS_OF_A_JOB as CHECKS_OF_A_JOB
from poise.config.compose import CHECKS_OF_A_START as CHECKS_OF_A_START
from poise.config.compose import CHECKS_OF_A_SWEEP as CHECKS_OF_A_SWEEP
from poise.config.compose import compose as compose
from poise.config.compose import from_yaml as from_yaml
from poise.config.compose import parse as parse
from poise.config.errors import ConfigErrors as ConfigErrors
from poise.config.explain import explain as explain
from poise.config.files import to_mapping as to_mapping
from poise.config.files import to_yaml as to_yaml
from poise.config.objects import write_down as write_down
from poise.config.objects import written as written
from poise.config.places import check_places as check_places
from poise.config.schema import Config as Config
from poise.config.schema import DataConfig as DataConfig
from poise.config.schema import Entry as Entry
from poise.config.schema import ModelConfig as ModelConfig
from poise.config.schema import SlurmConfig as SlurmConfig
from poise.config.schema import ThreatConfig as ThreatConfig
from poise.config.schema import TrackingConfig as TrackingConfig
from poise.config.schema import TrainerConfig as TrainerConfig
from poise.config.stacking import check_stack as check_stack
