# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""IKEv2 as exchanges: endpoint, IKE SAs, child SAs, and their lives."""
