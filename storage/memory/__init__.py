"""What the tables hold, in memory: columns as arrays, small record batches, a tick as an object and its mode."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
