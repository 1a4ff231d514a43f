from .comparison import Comparison as Comparison
from .coverage import SILENT_SECONDS as SILENT_SECONDS
from .coverage import DayCoverage as DayCoverage
from .coverage import Summary as Summary
from .methods import QualityMethods as QualityMethods
from .nothing import why_nothing as why_nothing
