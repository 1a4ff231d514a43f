"""Names, tokens and reference prices that the simulated market is made of.

Tokens of the real names are Kite's own (exchange token << 8 | segment byte), so that a recipe written for the broker
works here. Prices are of the right order, no more. The rest of the market is made up in `symbols`.
"""

from typing import Final, NamedTuple


class Stock(NamedTuple):
    """A listed company: NSE exchange token, BSE scrip code (0: made up), price in rupees, sector."""

    symbol: str
    name: str
    nse_token: int
    bse_code: int
    price: float
    sector: str


class Index(NamedTuple):
    """An index: exchange token in the INDICES segment, value, annual volatility, how hard the market moves it."""

    symbol: str
    exchange: str
    token: int
    price: float
    volatility: float
    beta: float


class Derivative(NamedTuple):
    """What futures and options are written on: its own name, whose price it follows, strike step, lot, how it expires.

    `weekday` is the expiry day of the week (Monday 0), monthly ones on the month's last; `weeklies` how many weekly
    expiries are listed besides the monthly ones.
    """

    name: str
    follows: str
    strike_step: float
    lot_size: int
    weekday: int
    weeklies: int


class Contract(NamedTuple):
    """A commodity or currency: rupees, tick size, strike step (0: no options), annual volatility, day of expiry."""

    name: str
    price: float
    tick_size: float
    strike_step: float
    volatility: float
    day: int


SECTORS: Final = (
    "BANK",
    "IT",
    "ENERGY",
    "AUTO",
    "FMCG",
    "PHARMA",
    "METAL",
    "INFRA",
    "TELECOM",
    "CHEMICALS",
    "REALTY",
    "OTHER",
)

STOCKS: Final = tuple(
    Stock(*row)
    for row in (
        ("RELIANCE", "RELIANCE INDUSTRIES", 2885, 500325, 1545.0, "ENERGY"),
        ("HDFCBANK", "HDFC BANK", 1333, 500180, 998.0, "BANK"),
        ("INFY", "INFOSYS", 1594, 500209, 1544.0, "IT"),
        ("ICICIBANK", "ICICI BANK", 4963, 532174, 1369.0, "BANK"),
        ("TCS", "TATA CONSULTANCY SERV LT", 11536, 532540, 3150.0, "IT"),
        ("SBIN", "STATE BANK OF INDIA", 3045, 500112, 972.0, "BANK"),
        ("BHARTIARTL", "BHARTI AIRTEL", 10604, 532454, 2160.0, "TELECOM"),
        ("ITC", "ITC", 1660, 500875, 407.0, "FMCG"),
        ("LT", "LARSEN & TOUBRO", 11483, 500510, 4025.0, "INFRA"),
        ("AXISBANK", "AXIS BANK", 5900, 532215, 1275.0, "BANK"),
        ("KOTAKBANK", "KOTAK MAHINDRA BANK", 1922, 500247, 2086.0, "BANK"),
        ("HINDUNILVR", "HINDUSTAN UNILEVER", 1394, 500696, 2430.0, "FMCG"),
        ("BAJFINANCE", "BAJAJ FINANCE", 317, 500034, 1007.0, "BANK"),
        ("MARUTI", "MARUTI SUZUKI INDIA", 10999, 532500, 15970.0, "AUTO"),
        ("SUNPHARMA", "SUN PHARMACEUTICAL IND L", 3351, 524715, 1780.0, "PHARMA"),
        ("M&M", "MAHINDRA & MAHINDRA", 2031, 500520, 3750.0, "AUTO"),
        ("HCLTECH", "HCL TECHNOLOGIES", 7229, 532281, 1610.0, "IT"),
        ("TATASTEEL", "TATA STEEL", 3499, 500470, 168.0, "METAL"),
        ("TITAN", "TITAN COMPANY", 3506, 500114, 3905.0, "OTHER"),
        ("ULTRACEMCO", "ULTRATECH CEMENT", 11532, 532538, 11620.0, "INFRA"),
        ("NTPC", "NTPC", 11630, 532555, 326.0, "ENERGY"),
        ("POWERGRID", "POWER GRID CORP. LTD.", 14977, 532898, 275.0, "ENERGY"),
        ("ONGC", "OIL AND NATURAL GAS CORP", 2475, 500312, 246.0, "ENERGY"),
        ("ASIANPAINT", "ASIAN PAINTS", 236, 500820, 2870.0, "CHEMICALS"),
        ("ADANIENT", "ADANI ENTERPRISES", 25, 512599, 2420.0, "INFRA"),
        ("ADANIPORTS", "ADANI PORT & SEZ", 15083, 532921, 1495.0, "INFRA"),
        ("JSWSTEEL", "JSW STEEL", 11723, 500228, 1140.0, "METAL"),
        ("BAJAJFINSV", "BAJAJ FINSERV", 16675, 532978, 2060.0, "BANK"),
        ("WIPRO", "WIPRO", 3787, 507685, 244.0, "IT"),
        ("NESTLEIND", "NESTLE INDIA", 17963, 500790, 1265.0, "FMCG"),
        ("COALINDIA", "COAL INDIA", 20374, 533278, 378.0, "ENERGY"),
        ("TECHM", "TECH MAHINDRA", 13538, 532755, 1455.0, "IT"),
        ("HINDALCO", "HINDALCO INDUSTRIES", 1363, 500440, 778.0, "METAL"),
        ("GRASIM", "GRASIM INDUSTRIES", 1232, 500300, 2735.0, "INFRA"),
        ("CIPLA", "CIPLA", 694, 500087, 1515.0, "PHARMA"),
        ("DRREDDY", "DR. REDDY'S LABORATORIES", 881, 500124, 1240.0, "PHARMA"),
        ("EICHERMOT", "EICHER MOTORS", 910, 505200, 7220.0, "AUTO"),
        ("BAJAJ-AUTO", "BAJAJ AUTO", 16669, 532977, 8920.0, "AUTO"),
        ("HEROMOTOCO", "HERO MOTOCORP", 1348, 500182, 5980.0, "AUTO"),
        ("INDUSINDBK", "INDUSIND BANK", 5258, 532187, 836.0, "BANK"),
        ("APOLLOHOSP", "APOLLO HOSPITALS ENTER. L", 157, 508869, 7440.0, "PHARMA"),
        ("DIVISLAB", "DIVI'S LABORATORIES", 10940, 532488, 6480.0, "PHARMA"),
        ("BRITANNIA", "BRITANNIA INDUSTRIES", 547, 500825, 5830.0, "FMCG"),
        ("TATACONSUM", "TATA CONSUMER PRODUCT", 3432, 500800, 1165.0, "FMCG"),
        ("HDFCLIFE", "HDFC LIFE INS CO", 467, 540777, 765.0, "BANK"),
        ("SBILIFE", "SBI LIFE INSURANCE CO", 21808, 540719, 2020.0, "BANK"),
        ("SHRIRAMFIN", "SHRIRAM FINANCE", 4306, 511218, 822.0, "BANK"),
        ("TRENT", "TRENT", 1964, 500251, 4370.0, "OTHER"),
        ("BEL", "BHARAT ELECTRONICS", 383, 500049, 417.0, "INFRA"),
        ("BPCL", "BHARAT PETROLEUM CORP  LT", 526, 500547, 362.0, "ENERGY"),
        ("VEDL", "VEDANTA", 3063, 500295, 500.0, "METAL"),
        ("TATAPOWER", "TATA POWER CO", 3426, 500400, 388.0, "ENERGY"),
        ("DLF", "DLF", 14732, 532868, 740.0, "REALTY"),
        ("IOC", "INDIAN OIL CORP", 1624, 530965, 167.0, "ENERGY"),
        ("GAIL", "GAIL (INDIA)", 4717, 532155, 183.0, "ENERGY"),
        ("SAIL", "STEEL AUTHORITY OF INDIA", 2963, 500113, 134.0, "METAL"),
        ("PNB", "PUNJAB NATIONAL BANK", 10666, 532461, 124.0, "BANK"),
        ("BANKBARODA", "BANK OF BARODA", 4668, 532134, 289.0, "BANK"),
        ("CANBK", "CANARA BANK", 10794, 532483, 146.0, "BANK"),
        ("IDEA", "VODAFONE IDEA", 14366, 532822, 10.1, "TELECOM"),
        ("YESBANK", "YES BANK", 11915, 532648, 22.8, "BANK"),
        ("MRF", "MRF", 2277, 500290, 152_300.0, "AUTO"),
    )
)

INDICES: Final = tuple(
    Index(*row)
    for row in (
        ("NIFTY 50", "NSE", 1001, 26_050.0, 0.13, 1.0),
        ("NIFTY BANK", "NSE", 1016, 58_900.0, 0.15, 1.1),
        ("SENSEX", "BSE", 1, 85_200.0, 0.13, 1.0),
        ("INDIA VIX", "NSE", 1035, 13.6, 0.9, -4.0),
        ("NIFTY FIN SERVICE", "NSE", 1007, 27_350.0, 0.15, 1.05),
        ("NIFTY MID SELECT", "NSE", 1125, 13_900.0, 0.16, 1.1),
        ("BANKEX", "BSE", 1072, 66_100.0, 0.15, 1.1),
        ("NIFTY NEXT 50", "NSE", 1058, 69_400.0, 0.16, 1.1),
        ("NIFTY IT", "NSE", 1015, 36_900.0, 0.2, 0.9),
        ("NIFTY AUTO", "NSE", 1029, 27_200.0, 0.18, 1.0),
        ("NIFTY FMCG", "NSE", 1023, 55_300.0, 0.13, 0.7),
        ("NIFTY METAL", "NSE", 1030, 10_200.0, 0.22, 1.2),
        ("NIFTY PHARMA", "NSE", 1025, 22_700.0, 0.16, 0.7),
        ("NIFTY REALTY", "NSE", 1020, 920.0, 0.25, 1.2),
        ("NIFTY PSU BANK", "NSE", 1027, 8_480.0, 0.22, 1.2),
        ("NIFTY ENERGY", "NSE", 1022, 35_600.0, 0.17, 1.0),
        ("NIFTY INFRA", "NSE", 1021, 9_560.0, 0.16, 1.0),
        ("NIFTY MEDIA", "NSE", 1031, 1_470.0, 0.25, 1.0),
        ("MCXBULLDEX", "MCX", 2001, 28_900.0, 0.12, 0.1),
    )
)

INDEX_DERIVATIVES: Final = (
    Derivative("NIFTY", "NSE:NIFTY 50", 50, 75, 1, 4),
    Derivative("BANKNIFTY", "NSE:NIFTY BANK", 100, 35, 1, 0),
    Derivative("FINNIFTY", "NSE:NIFTY FIN SERVICE", 50, 65, 1, 0),
    Derivative("MIDCPNIFTY", "NSE:NIFTY MID SELECT", 25, 140, 1, 0),
)
BSE_DERIVATIVES: Final = (
    Derivative("SENSEX", "BSE:SENSEX", 100, 20, 3, 4),
    Derivative("BANKEX", "BSE:BANKEX", 100, 30, 3, 0),
)
CURRENCIES: Final = (
    Contract("USDINR", 89.2, 0.0025, 0.25, 0.04, 0),
    Contract("EURINR", 103.3, 0.0025, 0.25, 0.07, 0),
    Contract("GBPINR", 117.4, 0.0025, 0.25, 0.08, 0),
    Contract("JPYINR", 57.6, 0.0025, 0.25, 0.08, 0),
)
COMMODITIES: Final = (
    Contract("CRUDEOIL", 5_280.0, 1.0, 50, 0.35, 19),
    Contract("CRUDEOILM", 5_280.0, 1.0, 50, 0.35, 19),
    Contract("NATURALGAS", 402.0, 0.1, 5, 0.55, 24),
    Contract("NATGASMINI", 402.0, 0.1, 5, 0.55, 24),
    Contract("GOLD", 123_600.0, 1.0, 500, 0.15, 5),
    Contract("GOLDM", 123_400.0, 1.0, 500, 0.15, 5),
    Contract("GOLDPETAL", 12_380.0, 1.0, 0, 0.15, 28),
    Contract("SILVER", 154_000.0, 1.0, 1000, 0.28, 5),
    Contract("SILVERM", 154_100.0, 1.0, 1000, 0.28, 28),
    Contract("SILVERMIC", 154_100.0, 1.0, 0, 0.28, 28),
    Contract("COPPER", 1_005.0, 0.05, 5, 0.2, 28),
    Contract("ZINC", 302.0, 0.05, 2.5, 0.2, 28),
    Contract("ALUMINIUM", 270.0, 0.05, 0, 0.18, 28),
    Contract("LEAD", 182.0, 0.05, 0, 0.18, 28),
)

SYLLABLES: Final = (
    *(
        "AD",
        "AM",
        "AN",
        "AR",
        "BAL",
        "BHAR",
        "CHAN",
        "DEEP",
        "DHAN",
        "GAN",
        "GIR",
        "HIM",
        "IND",
        "JAI",
        "JYO",
        "KAL",
        "KIR",
        "LAK",
    ),
    *(
        "MAN",
        "MER",
        "NAV",
        "NIR",
        "OM",
        "PAD",
        "PRA",
        "RAJ",
        "RAM",
        "SAM",
        "SHI",
        "SUR",
        "TAR",
        "UD",
        "VAR",
        "VIN",
        "YASH",
        "ZEN",
    ),
)
ENDINGS: Final = (
    "BANK",
    "CEM",
    "CHEM",
    "FIN",
    "FOODS",
    "GAS",
    "INFRA",
    "LABS",
    "MILL",
    "PIPE",
    "POWER",
    "STEEL",
    "TECH",
    "TEX",
)
