"""`kubectl modelswap`: what people ask a cluster about versions and routes."""
