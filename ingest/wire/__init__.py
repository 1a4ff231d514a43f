"""The broker's packets and texts, sans-I/O: bytes to columns and back, and where every byte went."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
