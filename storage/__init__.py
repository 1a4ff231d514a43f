"""What the tables are, and how bytes become durable."""
