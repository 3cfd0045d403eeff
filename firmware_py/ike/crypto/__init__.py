# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""IKEv2 as cryptography: key exchange, keys, proposals, AUTH, the sealed message."""
