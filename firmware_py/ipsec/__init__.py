# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""What IPsec is (RFC 4301 to 4303): SAs, policies, packets, and ESP and AH in software."""
