from .market import Instrument as Instrument
from .market import PriceLevel as PriceLevel
from .market import Snapshot as Snapshot
