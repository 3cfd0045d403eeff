# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""The control element: what the tables should say, and the way of the packets that they do not know."""
