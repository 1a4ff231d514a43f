"""What was known at a moment: instruments, last rows, the book, and measures of it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
