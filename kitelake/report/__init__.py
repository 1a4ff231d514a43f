"""A day held against the lake: what was wanted, what came of it, what was missed, what to act on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
