from .verify import Progress as Progress
from .verify import VerifyReport as VerifyReport
from .verify import damaged_days as damaged_days
from .verify import verify as verify
