from .answers import CandleCall as CandleCall
from .broker import PaperBroker as PaperBroker
from .market import Instrument as Instrument
from .market import PriceLevel as PriceLevel
from .market import Snapshot as Snapshot
from .settings import PaperSettings as PaperSettings
