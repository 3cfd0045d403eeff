"""``spigate ce``: a gateway at work on a Linux host, with hardware or with the software path."""
