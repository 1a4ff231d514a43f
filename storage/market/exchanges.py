"""The exchanges of the broker's instrument list, and which of them have sessions that are known. Pure."""

from typing import Final

EQUITIES: Final = ("NSE", "BSE")
EQUITY_DERIVATIVES: Final = ("NFO", "BFO")
CURRENCIES: Final = ("CDS", "BCD")
COMMODITIES: Final = ("MCX", "NCO")
SCHEDULED: Final = (*EQUITIES, *EQUITY_DERIVATIVES, *CURRENCIES, *COMMODITIES)
"""Those whose sessions `sessions` has; in config.yaml "all" means these."""

ROUND_THE_CLOCK: Final = ("NSEIX", "GLOBAL")
"""Left out of the sessions on purpose: GIFT Nifty trades across midnight in India (06:30-15:40 and 16:35-02:45), the
indices of other countries at their own hours. These, and whatever the broker lists one day, count as always open."""


def is_scheduled(exchange: str) -> bool:
    """Whether its sessions are known; it counts as always open if not."""
    return exchange in SCHEDULED


def place_of_exchange(exchange: str) -> tuple[int, str]:
    """To sort by: the order of SCHEDULED, the others behind."""
    return (SCHEDULED.index(exchange) if exchange in SCHEDULED else len(SCHEDULED), exchange)
