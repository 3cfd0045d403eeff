"""Who peers are: identities, certificates, and the Peer Authorization Database."""
