"""A strategy as it is, in a process of its own that is bound to a replay and cannot reach the real broker."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
