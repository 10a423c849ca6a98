from poise_recipes.adversarial.awp import AWP as AWP
from poise_recipes.adversarial.pgd import PGD as PGD
from poise_recipes.adversarial.pgd_at import PGDAT as PGDAT
from poise_recipes.adversarial.trades import Trades as Trades
from poise_recipes.calibration.temperature_scaling import TemperatureScaling as TemperatureScaling
from poise_recipes.mixup.mixup import Mixup as Mixup
from poise_recipes.projection.projection_head import ProjectionHead as ProjectionHead
from poise_recipes.reweighting.group_dro import GroupDRO as GroupDRO
