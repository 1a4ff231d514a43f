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

EXCHANGE_BY_SEGMENT: Final = {
    1: "NSE",
    2: "NFO",
    3: "CDS",
    4: "BSE",
    5: "BFO",
    6: "BCD",
    7: "MCX",
    8: "MCXSX",
    9: "INDICES",
    12: "NCO",
}
"""By the last byte of an instrument's token, as the official clients have it; 12 is not documented, but seen."""
UNKNOWN_EXCHANGE: Final = "UNKNOWN"


def exchange_of_token(token: int) -> str:
    """The `exchange` of the instrument's rows in ticks: that of an index is INDICES, wherever it is listed."""
    return EXCHANGE_BY_SEGMENT.get(token & 0xFF, UNKNOWN_EXCHANGE)


def is_scheduled(exchange: str) -> bool:
    """Whether its sessions are known; it counts as always open if not."""
    return exchange in SCHEDULED


def place_of_exchange(exchange: str) -> tuple[int, str]:
    """To sort by: the order of SCHEDULED, the others behind."""
    return (SCHEDULED.index(exchange) if exchange in SCHEDULED else len(SCHEDULED), exchange)
