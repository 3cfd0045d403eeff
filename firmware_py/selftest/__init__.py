# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""``spigate selftest``: whether a gateway's tables, algorithms and counters work, shown by packets that go
through it and come back up.
"""
