"""IKEv2 as exchanges: endpoint, IKE SAs, child SAs, and their lives."""
