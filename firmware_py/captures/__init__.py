# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Captures of Linux's IPsec: files of packets, SAs and policies."""
