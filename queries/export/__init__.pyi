from .choice import TABLES as TABLES
from .choice import Choice as Choice
from .exporting import Export as Export
from .exporting import Form as Form
from .exporting import Progress as Progress
