from .one_day import OneDay as OneDay
from .recorder import Recorder as Recorder
from .runner import capture as capture
from .service import Service as Service
from .snapshot import Progress as Progress
