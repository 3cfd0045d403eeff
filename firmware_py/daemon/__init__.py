# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate ce``: a gateway at work on a Linux host, with hardware or with the software path."""
