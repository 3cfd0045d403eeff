# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What ``import spigate`` offers to scripts: a gateway that is opened by its URL, and calls that wait for
their answer.
"""
