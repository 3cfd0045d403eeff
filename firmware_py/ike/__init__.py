# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""IKEv2 (RFC 7296), sans-I/O: bytes, addresses and a clock in; bytes and actions out.

From the wire up: :mod:`registry` (numbers), :mod:`structures`, :mod:`payloads` and :mod:`message` (the
codec),
:mod:`protect` (SK and SKF), :mod:`proposals` and :mod:`selectors` (what two peers agree on),
:mod:`exchange` and
:mod:`keys` (secrets and what follows from them), :mod:`identities`, :mod:`certificates` and
:mod:`authentication` (who
the peer is). :mod:`errors` is all that these raise about what a peer sent.
"""
