from .one_day import Session as Session
from .recorder import Recorder as Recorder
from .runner import capture as capture
from .service import Service as Service
from .snapshot import Progress as Progress
