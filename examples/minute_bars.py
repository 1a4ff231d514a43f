"""One-minute bars of an exchange from a data folder, as pandas, Polars or CSV would take them.

python examples/minute_bars.py data/simulated NSE
"""

import sys

import kitelake

BARS = """
select symbol, time_bucket(interval 1 minute, received_at) as minute,
       first(last_price order by seq) as open, max(last_price) as high,
       min(last_price) as low, last(last_price order by seq) as close, count(*) as ticks
from ticks
where exchange = $exchange and symbol is not null
group by all
order by symbol, minute
"""


def main(folder: str, exchange: str) -> None:
    """Print the bars. `result.df()` and `result.pl()` give data frames of the same."""
    with kitelake.open(folder) as lake:
        lake.sql(BARS, {"exchange": exchange}).show()


if __name__ == "__main__":
    main(*sys.argv[1:])
