"""An IPsec gateway for FPGAs. ``hdl``: the gateware; ``firmware_py``: its control element; ``sim``, ``boards``: around them."""
from importlib.metadata import version

__version__ = version("spigate")
