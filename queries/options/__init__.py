"""Futures and option chains: what of a name expires when, what it is worth, and the volatility in that."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
