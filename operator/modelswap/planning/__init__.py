"""The functional core: what is wanted and observed, and the time, come in; a plan comes out. No I/O in here."""
