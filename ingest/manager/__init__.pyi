from .allocation import Allocation as Allocation
from .allocation import Moved as Moved
from .kiteticker import KiteTicker as KiteTicker
from .manager import TickerManager as TickerManager
from .want import LOAD as LOAD
from .want import Slot as Slot
from .want import Want as Want
