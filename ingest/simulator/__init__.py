"""A market of its own behind that server: it misbehaves on order, and knows what it sent."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
