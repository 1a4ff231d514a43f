"""Bytes durable before anything else: segments of received frames, written, read and archived."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
