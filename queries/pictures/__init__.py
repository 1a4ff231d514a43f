"""Pictures of what a query gave: of bars, books, chains, coverage, latency, or anything with times."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
