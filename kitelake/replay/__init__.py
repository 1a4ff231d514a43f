"""A captured day as the broker, for strategies as they are: its stream, its REST calls, and orders on paper."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
