"""What is known of the market, with dates and sources: exchanges, sessions, contracts, names. Pure."""
