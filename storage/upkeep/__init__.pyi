from .archive import archive_committed as archive_committed
from .compact import CompactedPartition as CompactedPartition
from .compact import CompactProgress as CompactProgress
from .compact import compact_day as compact_day
from .retention import remove_committed as remove_committed
from .retention import remove_days as remove_days
from .vacuum import vacuum_tables as vacuum_tables
