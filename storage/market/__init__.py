"""What is known of the market, with dates and sources: exchanges, sessions, contracts, names. Pure."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
