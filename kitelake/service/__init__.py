"""The service: it starts, compares what is wanted with what is streamed, and stops."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
