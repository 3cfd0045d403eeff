"""The claims, a module for each part of the gateway that they are about."""
from tests.formal.claims import cam, dfe, net, replay
from tests.formal.proof import PROOFS

__all__ = ["PROOFS", "cam", "dfe", "net", "replay"]
