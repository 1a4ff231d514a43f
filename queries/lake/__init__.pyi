from .lake import Lake as Lake
from .result import Result as Result
from .views import literal as literal
from .views import quoted as quoted
