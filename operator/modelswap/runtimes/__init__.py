"""How model servers are spoken to, by protocol."""
