from .folder import Progress as Progress
from .folder import VerifyReport as VerifyReport
from .folder import damaged_days as damaged_days
from .folder import verify as verify
