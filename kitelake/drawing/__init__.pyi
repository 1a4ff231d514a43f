from .chart import draw as draw
from .output import write_drawing as write_drawing
