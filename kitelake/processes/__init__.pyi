from .child import Child as Child
from .report_runner import make_report_apart as make_report_apart
from .source import Source as Source
from .source import open_source as open_source
from .upkeep import days_before as days_before
from .upkeep import keep_up as keep_up
from .upkeep_runner import UpkeepRunner as UpkeepRunner
from .upkeep_runner import settings_of as settings_of
