from .output import draw as draw
from .output import render as render
from .output import write_result as write_result
from .plan import hours_in_words as hours_in_words
from .plan import lines_of_plan as lines_of_plan
from .plan import render_plan as render_plan
from .report import render_report as render_report
from .status import render_status as render_status
