"""An IPsec gateway for FPGAs. ``hdl``: the gateware; ``firmware_py``: its control element; ``sim``, ``boards``: around them."""

__version__ = "0.1.0"
