from .loop import Shell as Shell
from .prompt import reader as reader
from .running import INTERRUPTED as INTERRUPTED
from .running import Progress as Progress
from .running import until_interrupted as until_interrupted
