from .dataset import TicksDataset as TicksDataset
from .snapshot import Snapshots as Snapshots
from .snapshot import TableSource as TableSource
from .ticks import LiveTicks as LiveTicks
