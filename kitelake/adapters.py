"""What was captured in the forms that backtest frameworks take; see docs/adapters.md."""

from queries.adapters import backtesting_frame as backtesting_frame
from queries.adapters import backtrader_bars as backtrader_bars
from queries.adapters import backtrader_ticks as backtrader_ticks
from queries.adapters import hftbacktest_events as hftbacktest_events
from queries.adapters import nautilus_instruments as nautilus_instruments
from queries.adapters import price_frame as price_frame
from queries.adapters import wide_frames as wide_frames
from queries.adapters import write_catalog as write_catalog
