# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Proofs about the gateware: `make prove`, or ``python -m tests.formal``.

A proof is a module with the block under proof, everything around it free, and what must hold as assertions.
Yosys and z3 then look for inputs that break one. Each proof comes with mutations of the block that it must
catch: a proof that passes with a block spoiled shows nothing.
"""
