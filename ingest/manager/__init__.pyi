from .allocation import Allocation as Allocation
from .kiteticker import KiteTicker as KiteTicker
from .manager import TickerManager as TickerManager
from .placement import LOAD as LOAD
from .placement import Slot as Slot
from .replicas import Moved as Moved
