# SPDX-FileCopyrightText: The spigate contributors
#
# SPDX-License-Identifier: Apache-2.0

"""Response files for AES, as the package cryptography_vectors has them: NIST's, and those of RFC 3686."""

import itertools
from collections.abc import Iterator

import cryptography_vectors


def nist(path: str) -> Iterator[dict[str, str]]:
    """The vectors of a response file, each with its section's settings; "FAIL" is a key of those to fail."""
    settings, vector = {}, {}
    with cryptography_vectors.open_vector_file(f"ciphers/AES/{path}", "r") as file:
        for line in itertools.chain(file, [""]):
            line = line.strip()
            if line.startswith("["):
                name, _, value = line[1:-1].partition(" = ")
                if name in ("ENCRYPT", "DECRYPT"):
                    settings = {"direction": name}
                else:
                    settings[name.upper()] = value
            elif line and not line.startswith("#"):
                name, _, value = line.partition(" =")
                vector[name.upper()] = value.strip()
            elif vector:
                yield {**settings, **vector}
                vector = {}
