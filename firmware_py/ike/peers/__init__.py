# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Who peers are: identities, certificates, and the Peer Authorization Database."""
