from .findings import VerifyProgress as VerifyProgress
from .findings import VerifyReport as VerifyReport
from .findings import damaged_days as damaged_days
from .folder import verify as verify
