"""Classes of what goes to the control element, for gateware and host: who may not fill whose place.

Nothing here needs Amaranth.
"""
from spigate.hdl.contract.enums import PuntClass, Reason

CLASSES: dict[int, PuntClass] = {
    Reason.IKE: PuntClass.IKE,
    **dict.fromkeys((Reason.NOT_IP, Reason.NEIGHBOUR), PuntClass.LINK),
    **dict.fromkeys((Reason.SA_ABSENT, Reason.DFE_DOWN, Reason.TTL_EXPIRED, Reason.TOO_BIG, Reason.NATT, Reason.AH), PuntClass.EXCEPTION),
    Reason.UNKNOWN_SPI: PuntClass.SPI,
}
"""The class of each reason of a punt; of all others it is REST."""
REFUSED = {
    PuntClass.IKE: Reason.IKE_RATE, PuntClass.LINK: Reason.LINK_RATE, PuntClass.EXCEPTION: Reason.EXCEPTION_RATE,
    PuntClass.SPI: Reason.SPI_RATE, PuntClass.REST: Reason.PUNT_RATE,
}
"""Why a punt of each class is dropped where its rate or its room is used up."""


def class_of(reason: int) -> PuntClass:
    """The class of a punt with that reason."""
    return CLASSES.get(reason, PuntClass.REST)
