"""Names under which the same thing is listed: an index or a share here, its derivatives there. Pure."""

from collections.abc import Mapping
from typing import Final

from storage.market.exchanges import EQUITIES, EQUITY_DERIVATIVES

INDEX_DERIVATIVES: Final[Mapping[str, str]] = {
    "NSE:NIFTY 50": "NIFTY",
    "NSE:NIFTY BANK": "BANKNIFTY",
    "NSE:NIFTY FIN SERVICE": "FINNIFTY",
    "NSE:NIFTY MID SELECT": "MIDCPNIFTY",
    "NSE:NIFTY NEXT 50": "NIFTYNXT50",
    "NSE:NIFTY FPI 150": "NIFTYFPI",
    "NSE:NIFTY INDIA FPI 150": "NIFTYFPI",
    "BSE:SENSEX": "SENSEX",
    "BSE:BANKEX": "BANKEX",
    "BSE:SNSX50": "SENSEX50",
    "BSE:SENSEX50": "SENSEX50",
    "BSE:BSE FOCUSED IT": "FOCIT",
    "MCX:MCXBULLDEX": "MCXBULLDEX",
    "MCX:MCXMETLDEX": "MCXMETLDEX",
}
"""What the derivatives of an index have as their name; the first of several symbols is the one that is listed now.

Sources: the broker's instrument list of July 2026 (the index rows, and the names of futures on BFO and MCX); NSE's
market lots of September 2026 for NIFTYFPI, whose index the exchange calls NIFTY INDIA FPI 150. The derivatives of a
share have its symbol.
"""


def derivatives_of(symbol: str) -> list[str]:
    """EXCHANGE:NAME of the derivatives of an index, a share or a commodity: NSE:NIFTY 50 → NFO:NIFTY, BFO:NIFTY.

    A share's may be listed on either exchange. `symbol` is EXCHANGE:TRADINGSYMBOL, in capitals.
    """
    exchange, _, tradingsymbol = symbol.partition(":")
    name = INDEX_DERIVATIVES.get(symbol, tradingsymbol)
    return [f"{other}:{name}" for other in (EQUITY_DERIVATIVES if exchange in EQUITIES else (exchange,))]


def spot_of(exchange: str, name: str) -> list[str]:
    """Symbols that the index or the share may have whose derivatives have this name, the likeliest first.

    Empty for a commodity or a currency, which is not listed itself.
    """
    homes = EQUITIES if exchange in EQUITY_DERIVATIVES else (exchange,)
    indices = [
        symbol
        for symbol, derivative in INDEX_DERIVATIVES.items()
        if derivative == name and symbol.partition(":")[0] in homes
    ]
    return [*indices, *(f"{home}:{name}" for home in homes)] if homes == EQUITIES else indices
