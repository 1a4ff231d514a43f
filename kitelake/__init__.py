"""Kitelake: every tick of your Kite Connect accounts, captured once, in SQL a moment later.

import kitelake

lake = kitelake.open("data/simulated")
lake.sql("select symbol, last_price from ticks order by received_at desc limit 5").show()
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
