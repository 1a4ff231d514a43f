from .days import Position as Position
from .days import Progress as Progress
from .feed import TickFeed as TickFeed
from .methods import FeedMethods as FeedMethods
from .points import Bar as Bar
from .points import Outage as Outage
from .tick import FeedTick as FeedTick
