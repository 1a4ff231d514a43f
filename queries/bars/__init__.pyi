from .choices import Clock as Clock
from .choices import Measure as Measure
from .choices import width_of as width_of
from .methods import BarMethods as BarMethods
from .sessions import are_noted as are_noted
from .sessions import exchanges_of as exchanges_of
from .sessions import hours_sql as hours_sql
from .sessions import sessions_of as sessions_of
