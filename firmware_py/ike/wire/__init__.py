# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""IKEv2 as bytes: numbers, payloads, messages, traffic selectors."""
