# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What gateware and host agree on: registers, table entries, reasons, hash functions.

Nothing here needs Amaranth, or knows of the control element.
"""
