"""From the broker's socket to the journal; and the broker's protocol as a server."""
