"""What was captured and what was missed: coverage, gaps, latency, and bars held against the broker's candles."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
