# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A captured day
#
# What a data folder has of its newest day, from the tables to a first look at prices. Open it in Jupyter through
# jupytext, or run it as it is:
#
#     KITELAKE_DATA=data/simulated python examples/a_day.py

# %%
import os

import kitelake

try:
    from IPython.display import display  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # as plain Python
    display = print

lake = kitelake.open(os.environ.get("KITELAKE_DATA", "data/simulated"))
display(lake)

# %% [markdown]
# The newest day, and what ticked most on it. A condition on `date` keeps everything else from being read.

# %%
day = max(lake.look().dates("ticks"))
busiest = lake.sql(
    """
    select symbol, count(*) as packets, min(received_at) as first, max(received_at) as last
    from ticks where date = $day and symbol is not null
    group by symbol order by packets desc, symbol limit 5
    """,
    {"day": day},
)
display(day, busiest)

# %% [markdown]
# Was all of it captured? Seconds in each state, and what was missed while a connection was away.

# %%
symbols = busiest.arrow()["symbol"].to_pylist()
display(lake.coverage(day, symbols))
display(lake.gaps(day, symbols))

# %% [markdown]
# Bars, by the definition that everything here uses.

# %%
symbol = symbols[0]
bars = lake.bars(symbol, "15m", str(day))
display(bars)

# %% [markdown]
# The book as the day ended, its spread over the day, and how late packets came.

# %%
display(lake.book(symbol, str(day)))

# %%
display(
    lake.sql(
        """
        select time_bucket(interval '1 hour', received_at) as hour, count(*) as quotes,
            round(avg(spread), 4) as spread, round(avg(1e4 * spread / mid), 2) as spread_bps
        from quotes where date = $day and symbol = $symbol and spread > 0
        group by hour order by hour
        """,
        {"day": day, "symbol": symbol},
    )
)
display(lake.latency(day, bucket_seconds=3600))

# %% [markdown]
# Any of it as a data frame: `bars.df()` for pandas, `bars.pl()` for Polars. And all of it once more, in the order in
# which it came, as a backtest has it.

# %%
with lake.feed(symbol, str(day)) as feed:
    moves = [tick.last_price for tick in feed if isinstance(tick, kitelake.FeedTick) and not tick.cached]
print(f"{symbol} on {day}: {len(moves):,} ticks, from {min(moves):.2f} to {max(moves):.2f}")
lake.close()
