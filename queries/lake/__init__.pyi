from .lake import Lake as Lake
from .result import Result as Result
