from .folder import VerifyProgress as VerifyProgress
from .folder import VerifyReport as VerifyReport
from .folder import damaged_days as damaged_days
from .folder import verify as verify
