"""SQL as people type it in a terminal: read, completed, run, interrupted, shown."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
