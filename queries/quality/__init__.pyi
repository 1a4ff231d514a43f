from .comparison import Comparison as Comparison
from .methods import QualityMethods as QualityMethods
