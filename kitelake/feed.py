"""What a feed gives, for who imports it by name. Opening a lake does not load it."""

from queries.feed import Bar as Bar
from queries.feed import FeedTick as FeedTick
from queries.feed import Outage as Outage
from queries.feed import Position as Position
from queries.feed import TickFeed as TickFeed
