"""The official client's callbacks under their public name: `from kitelake.compat import KiteTicker`."""

from ingest.manager import KiteTicker as KiteTicker
