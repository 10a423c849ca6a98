"""What exists, read from source without importing it."""

from poise.registry.catalogue import build as build
from poise.registry.catalogue import find as find
from poise.registry.catalogue import load as load
from poise.registry.catalogue import name_of as name_of
from poise.registry.catalogue import named as named
from poise.registry.catalogue import parameters_of as parameters_of
from poise.registry.catalogue import records as records
from poise.registry.catalogue import refresh as refresh
from poise.registry.catalogue import resolve as resolve
from poise.registry.kinds import KINDS as KINDS
from poise.registry.kinds import Kind as Kind
from poise.registry.kinds import WrongKindError as WrongKindError
from poise.registry.record import REQUIRED as REQUIRED
from poise.registry.record import UNWRITABLE as UNWRITABLE
from poise.registry.record import Parameter as Parameter
from poise.registry.record import Record as Record
