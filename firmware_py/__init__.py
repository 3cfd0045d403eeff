"""The control element, and what else of the gateway runs on a host."""
