"""A captured day as the broker, for strategies as they are: its stream, its REST calls, and orders on paper."""
