"""Orders on paper: placed, matched against captured packets, and answered for as the broker does."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
