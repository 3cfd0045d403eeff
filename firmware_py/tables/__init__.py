# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The gateway's tables: what is in them, the driver that writes them, and the model of the gateway that
reads them.
"""
