"""A gateway on a Linux host, without hardware: IKE, ESP and AH between a TUN device and the network."""
