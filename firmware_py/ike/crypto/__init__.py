"""IKEv2 as cryptography: key exchange, keys, proposals, AUTH, the sealed message."""
