from .archive import archive_committed as archive_committed
from .compact import SealProgress as SealProgress
from .compact import seal as seal
from .retention import remove_committed as remove_committed
from .retention import remove_days as remove_days
from .vacuum import remove_superseded as remove_superseded
