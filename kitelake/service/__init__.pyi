from .one_day import OneDay as OneDay
from .runner import capture as capture
from .service import Service as Service
from .snapshot import Progress as Progress
