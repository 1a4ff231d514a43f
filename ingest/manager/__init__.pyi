from .allocation import Allocation as Allocation
from .allocation import Moved as Moved
from .kiteticker import KiteTicker as KiteTicker
from .manager import TickerManager as TickerManager
from .placement import LOAD as LOAD
from .placement import Slot as Slot
