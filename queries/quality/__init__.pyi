from .comparison import Comparison as Comparison
from .methods import QualityMethods as QualityMethods
from .nothing import why_nothing as why_nothing
